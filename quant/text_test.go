package quant

import (
	"reflect"
	"strings"
	"testing"
)

const sample = header + `model 12 layers
note measured on 3 lines
matmul layer.0.qkv int8 error=0.0109 12 % of the squared error
matmul layer.2.down bf16 error=0.031 largest error
matmul layer.10.down default
matmul logits int8
smooth layer.0.qkv 1.03 0.871 12
shift layer.0.qkv -0.5 2e-05
`

func TestText(t *testing.T) {
	c, err := Parse(strings.NewReader("\n # no fact\n" + sample))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Model: "12 layers", Notes: []string{"measured on 3 lines"}, Linears: map[string]Linear{
		"layer.0.qkv":   {Precision: Int8, Error: 0.0109, Reason: "12 % of the squared error", Smooth: []float32{1.03, 0.871, 12}, Shift: []float32{-0.5, 2e-5}},
		"layer.2.down":  {Precision: BF16, Error: 0.031, Reason: "largest error"},
		"layer.10.down": {},
		"logits":        {Precision: Int8},
	}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("parsed %+v, want %+v", c, want)
	}
	if got := c.String(); got != sample {
		t.Errorf("printed\n%swant\n%s", got, sample)
	}
	if got := (*Config)(nil).String(); got != header {
		t.Errorf("the nil Config prints %q", got)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"matmuls x int8":                               `1: "matmuls" is not model, note, matmul, smooth or shift`,
		"model a\n\nmodel b":                           "3: a second model",
		"matmul":                                       "1: a matmul without a name",
		"matmul x":                                     `1: matmul x: precision "" is not int8, bf16 or default`,
		"# c\nmatmul x int4":                           `2: matmul x: precision "int4" is not int8, bf16 or default`,
		"matmul x int8\nmatmul x bf16":                 "2: a second line for matmul x",
		"matmul x int8 error=-1":                       `1: matmul x: error "-1" is not a number of 0 or more`,
		"matmul x int8 error=NaN":                      `1: matmul x: error "NaN" is not a number of 0 or more`,
		"smooth x 1":                                   "1: no line above is of matmul x",
		"smooth x":                                     "1: smooth without a matmul and its numbers",
		"matmul x int8\nsmooth x 1 0":                  `2: matmul x: number 1 of smooth is "0", not a positive number`,
		"matmul x int8\nsmooth x 1e60":                 `2: matmul x: number 0 of smooth is "1e60", not a positive number`,
		"matmul x int8\nsmooth x 1\nsmooth x 1":        "3: matmul x has a line smooth already",
		"matmul x int8\nshift x 0 inf":                 `2: matmul x: number 1 of shift is "inf", not a number`,
		"matmul x int8 error=0 error=2":                "1: matmul x: a second error",
		"note a\nnote " + strings.Repeat("a", maxLine): "2: the line is longer than 2097152 bytes",
		strings.Repeat("\x00", 100) + " a":             `1: "` + strings.Repeat(`\x00`, 40) + `" is not model, note, matmul, smooth or shift`,
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("%.40q: the error is %v, want %s", text, err, want)
		}
	}
}

// FuzzParse: what Parse accepts passes Check and prints as a text that it reads back as the same.
func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("matmul a int8 error=1e-3\nsmooth a 1 2e-3\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatalf("%q was accepted: %v", text, err)
		}
		once := c.String()
		d, err := Parse(strings.NewReader(once))
		if err != nil {
			t.Fatalf("%q was accepted and printed as %q: %v", text, once, err)
		}
		if again := d.String(); again != once {
			t.Fatalf("%q prints as %q, then as %q", text, once, again)
		}
	})
}
