package ir

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// This file owns the text of attributes. It prints and parses attribute
// structs by their `ir` tags; see attrs.go.

// attrField is one field of an attribute struct.
type attrField struct {
	name string
	pos  bool // written before the arguments, without its name
	val  reflect.Value
}

// attrFields returns the fields of the struct that attrs points to.
func attrFields(attrs any) []attrField {
	if attrs == nil {
		return nil
	}
	s := reflect.ValueOf(attrs).Elem()
	var out []attrField
	for i := range s.NumField() {
		name, opt, _ := strings.Cut(s.Type().Field(i).Tag.Get("ir"), ",")
		if name != "" {
			out = append(out, attrField{name, opt == "pos", s.Field(i)})
		}
	}
	return out
}

// AttrsText returns the named attributes as they are printed, such as
// "{eps=1e-05, out=bf16}", or "" when all have their default. Two values of
// one op have equal attributes exactly when PosText and AttrsText are equal.
func AttrsText(attrs any) string {
	var parts []string
	for _, f := range attrFields(attrs) {
		if !f.pos && !isDefault(f.val) {
			parts = append(parts, f.name+"="+formatAttr(f.val))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// PosText returns the attribute that is printed before the arguments, or "".
func PosText(attrs any) string {
	for _, f := range attrFields(attrs) {
		if f.pos && f.val.Kind() == reflect.String {
			return strconv.Quote(f.val.String())
		}
		if f.pos {
			return formatAttr(f.val)
		}
	}
	return ""
}

func isDefault(v reflect.Value) bool {
	if v.Kind() == reflect.Slice {
		return v.Len() == 0
	}
	if d, ok := v.Interface().(Dim); ok {
		return d.Equal(Dim{})
	}
	return v.IsZero()
}

func formatAttr(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case float64:
		return formatFloat(x)
	case DType:
		return x.String()
	case Dim:
		return x.String()
	case []Dim:
		return formatDims(x)
	case int:
		return strconv.Itoa(x)
	case []int:
		s := make([]string, len(x))
		for i, n := range x {
			s[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(s, ",") + "]"
	case string:
		return x
	}
	panic("ir: attribute field of type " + v.Type().String())
}

func formatFloat(x float64) string {
	switch {
	case math.IsInf(x, 1):
		return "inf"
	case math.IsInf(x, -1):
		return "-inf"
	case math.IsNaN(x):
		return "nan"
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

// posAttr reads the attribute in front of the arguments, if attrs has one.
func (p *parser) posAttr(attrs any) {
	for _, f := range attrFields(attrs) {
		if !f.pos {
			continue
		}
		if f.val.Kind() != reflect.String {
			p.attrValue(f.val)
			continue
		}
		pos := p.tok.pos
		s, err := strconv.Unquote(p.wantKind(tokString, "a name in quotes"))
		if err != nil {
			p.failAt(pos, "name is not quoted correctly")
		}
		f.val.SetString(s)
	}
}

// namedAttrs reads attributes in braces.
func (p *parser) namedAttrs(v *Value) {
	fields := attrFields(v.Attrs)
	p.want("{")
	p.list("}", func() {
		i := slices.IndexFunc(fields, func(f attrField) bool { return !f.pos && f.name == p.tok.text })
		if i < 0 || p.tok.kind != tokName {
			p.fail("%s has no attribute %s left to set", v.Op.Name, p.found())
		}
		p.advance()
		p.want("=")
		p.attrValue(fields[i].val)
		fields = slices.Delete(fields, i, i+1)
	})
}

func (p *parser) attrValue(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *float64:
		*x = p.float()
	case *DType:
		*x = p.dtype()
	case *Dim:
		*x = p.dim()
	case *[]Dim:
		*x = p.dims()
	case *int:
		*x = p.int()
	case *[]int:
		p.want("[")
		p.list("]", func() { *x = append(*x, p.int()) })
	case *string:
		*x = p.wantKind(tokName, "a word")
	default:
		panic("ir: attribute field of type " + v.Type().String())
	}
}
