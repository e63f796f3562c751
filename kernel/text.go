package kernel

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bertc/bertc/ir"
)

// field is one key=value of the text of a Spec or Plan. get returns "" when the value is zero,
// which leaves the field out.
type field[T any] struct {
	key string
	get func(*T) string
	set func(*T, string) error
}

func intField[T any](key string, p func(*T) *int) field[T] {
	return field[T]{key,
		func(t *T) string {
			if *p(t) == 0 {
				return ""
			}
			return strconv.Itoa(*p(t))
		},
		func(t *T, s string) error {
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 || n > 1<<30 {
				return fmt.Errorf("%s: %q is not a size", key, s)
			}
			*p(t) = n
			return nil
		}}
}

func floatField[T any](key string, p func(*T) *float64) field[T] {
	return field[T]{key,
		func(t *T) string {
			if *p(t) == 0 {
				return ""
			}
			return strconv.FormatFloat(*p(t), 'g', -1, 64)
		},
		func(t *T, s string) (err error) {
			if *p(t), err = strconv.ParseFloat(s, 64); err != nil || !(*p(t) > 0 && *p(t) < 1e30) {
				return fmt.Errorf("%s: %q is not a positive number", key, s)
			}
			return nil
		}}
}

func stringField[T any, S ~string](key string, p func(*T) *S) field[T] {
	return field[T]{key,
		func(t *T) string { return string(*p(t)) },
		func(t *T, s string) error { *p(t) = S(s); return nil }}
}

func dtypeField[T any](key string, p func(*T) *ir.DType) field[T] {
	return field[T]{key,
		func(t *T) string {
			if !p(t).Valid() {
				return ""
			}
			return p(t).String()
		},
		func(t *T, s string) error {
			d, ok := ir.ParseDType(s)
			if !ok {
				return fmt.Errorf("%s: unknown dtype %q", key, s)
			}
			*p(t) = d
			return nil
		}}
}

func boolField[T any](key string, p func(*T) *bool) field[T] {
	return field[T]{key,
		func(t *T) string {
			if *p(t) {
				return "true"
			}
			return ""
		},
		func(t *T, s string) (err error) { *p(t), err = strconv.ParseBool(s); return err }}
}

func pairField[T any](key string, p func(*T) (*int, *int)) field[T] {
	return field[T]{key,
		func(t *T) string {
			a, b := p(t)
			if *a == 0 && *b == 0 {
				return ""
			}
			return fmt.Sprintf("%dx%d", *a, *b)
		},
		func(t *T, s string) error {
			a, b := p(t)
			x, y, ok := strings.Cut(s, "x")
			var err1, err2 error
			*a, err1 = strconv.Atoi(x)
			*b, err2 = strconv.Atoi(y)
			if !ok || err1 != nil || err2 != nil || *a < 0 || *b < 0 || *a > 1<<20 || *b > 1<<20 {
				return fmt.Errorf("%s: %q is not a pair of sizes like 12x32", key, s)
			}
			return nil
		}}
}

var specFields = []field[Spec]{
	dtypeField("in", func(s *Spec) *ir.DType { return &s.In }),
	dtypeField("out", func(s *Spec) *ir.DType { return &s.Out }),
	dtypeField("math", func(s *Spec) *ir.DType { return &s.Math }),
	dtypeField("weight", func(s *Spec) *ir.DType { return &s.Weight }),
	intField("n", func(s *Spec) *int { return &s.N }),
	intField("k", func(s *Spec) *int { return &s.K }),
	stringField("prologue", func(s *Spec) *Prologue { return &s.Prologue }),
	boolField("beta", func(s *Spec) *bool { return &s.Beta }),
	floatField("eps", func(s *Spec) *float64 { return &s.Eps }),
	stringField("epilogue", func(s *Spec) *Epilogue { return &s.Epilogue }),
	intField("heads", func(s *Spec) *int { return &s.Heads }),
	intField("kvheads", func(s *Spec) *int { return &s.KVHeads }),
	intField("headdim", func(s *Spec) *int { return &s.HeadDim }),
	floatField("scale", func(s *Spec) *float64 { return &s.Scale }),
	boolField("positions", func(s *Spec) *bool { return &s.Positions }),
	boolField("activations", func(s *Spec) *bool { return &s.Activations }),
	stringField("table", func(s *Spec) *Layout { return &s.Table }),
}

var planFields = []field[Plan]{
	stringField("inst", func(p *Plan) *string { return &p.Inst }),
	pairField("micro", func(p *Plan) (*int, *int) { return &p.MicroM, &p.MicroN }),
	pairField("block", func(p *Plan) (*int, *int) { return &p.BlockM, &p.BlockN }),
}

func printFields[T any](b *strings.Builder, t *T, fields []field[T]) {
	for _, f := range fields {
		if v := f.get(t); v != "" {
			b.WriteString(" " + f.key + "=" + v)
		}
	}
}

func parseFields[T any](t *T, what string, words []string, fields []field[T]) error {
	seen := map[string]bool{}
next:
	for _, w := range words {
		key, val, ok := strings.Cut(w, "=")
		if !ok || seen[key] {
			return fmt.Errorf("%s: expected a new key=value, found %q", what, w)
		}
		seen[key] = true
		for _, f := range fields {
			if f.key == key {
				if err := f.set(t, val); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				continue next
			}
		}
		return fmt.Errorf("%s: unknown key %q", what, key)
	}
	return nil
}

// String returns the text of s: its kind and its fields that are not zero.
func (s Spec) String() string {
	var b strings.Builder
	b.WriteString(string(s.Kind))
	printFields(&b, &s, specFields)
	return b.String()
}

// ParseSpec reads the text that String writes and checks it with Valid.
func ParseSpec(text string) (Spec, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Spec{}, fmt.Errorf("spec is empty")
	}
	s := Spec{Kind: Kind(words[0])}
	if err := parseFields(&s, "spec", words[1:], specFields); err != nil {
		return Spec{}, err
	}
	return s, s.Valid()
}

// String returns the text of p, as shown at Plan.
func (p Plan) String() string {
	var b strings.Builder
	b.WriteString(string(p.Kind) + " " + p.Target)
	printFields(&b, &p, planFields)
	return b.String()
}

// ParsePlan reads the text that String writes. It checks the form; whether the plan is legal
// for a Spec is Check's to say.
func ParsePlan(text string) (Plan, error) {
	words := strings.Fields(text)
	if len(words) < 2 {
		return Plan{}, fmt.Errorf("plan %q: expected a kind and a target", text)
	}
	p := Plan{Kind: Kind(words[0]), Target: words[1]}
	return p, parseFields(&p, "plan", words[2:], planFields)
}
