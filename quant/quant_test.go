package quant

import (
	"math"
	"slices"
	"testing"
)

func TestConfig(t *testing.T) {
	c := &Config{Linears: map[string]Linear{
		"layer.0.qkv":  {Smooth: []float32{1, 2}},
		"layer.0.down": {Precision: BF16},
	}}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if got := c.Names(); !slices.Equal(got, []string{"layer.0.down", "layer.0.qkv"}) {
		t.Errorf("names %v", got)
	}
	if got := c.Vector(VectorName("layer.0.qkv")); !slices.Equal(got, []float32{1, 2}) {
		t.Errorf("vector %v", got)
	}
	for _, name := range []string{"layer.0.qkv", VectorName("layer.0.down"), VectorName("layer.1.qkv")} {
		if got := c.Vector(name); got != nil {
			t.Errorf("vector %s is %v", name, got)
		}
	}
	var none *Config
	if err := none.Check(); err != nil || none.Linear("layer.0.qkv").Precision != "" || none.Names() != nil {
		t.Errorf("the nil Config says something (%v)", err)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		l    Linear
		want string
	}{
		{Linear{Precision: "int4"}, `matmul x: precision "int4" is neither int8 nor bf16`},
		{Linear{Smooth: []float32{1, 0}}, "matmul x: smoothing factor 1 is 0, not a positive number"},
		{Linear{Smooth: []float32{float32(math.NaN())}}, "matmul x: smoothing factor 0 is NaN, not a positive number"},
		{Linear{Smooth: []float32{float32(math.Inf(1))}}, "matmul x: smoothing factor 0 is +Inf, not a positive number"},
	} {
		err := (&Config{Linears: map[string]Linear{"x": c.l}}).Check()
		if err == nil || err.Error() != c.want {
			t.Errorf("%+v: the error is %v, want %s", c.l, err, c.want)
		}
	}
}
