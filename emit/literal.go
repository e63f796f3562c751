package emit

import (
	"fmt"
	"reflect"
	"strings"

	rt "github.com/bertc/bertc/runtime"
)

// This file writes values as Go source.

// constants are the names of the values of a type, from 0.
var constants = map[reflect.Type][]string{
	reflect.TypeFor[rt.Kind]():   {"rt.Gemm", "rt.Attention", "rt.Rowwise", "rt.Gather"},
	reflect.TypeFor[rt.DType]():  {"rt.F32", "rt.BF16", "rt.I32", "rt.I8"},
	reflect.TypeFor[rt.Norm]():   {"rt.NoNorm", "rt.RMSNorm", "rt.LayerNorm"},
	reflect.TypeFor[rt.Extent](): {"rt.Tokens", "rt.Picked"},
}

// fields writes the fields of a struct that are not zero, and the named constants.
func fields(v reflect.Value) string {
	var parts []string
	for i := range v.NumField() {
		f := v.Field(i)
		if _, named := constants[f.Type()]; named || !f.IsZero() {
			parts = append(parts, v.Type().Field(i).Name+": "+literal(f))
		}
	}
	return strings.Join(parts, ", ")
}

// literal writes a value, without the type of a composite.
func literal(v reflect.Value) string {
	if names, ok := constants[v.Type()]; ok {
		return names[v.Uint()]
	}
	if v.Kind() == reflect.Struct {
		return "{" + fields(v) + "}"
	}
	return fmt.Sprintf("%#v", v.Interface())
}
