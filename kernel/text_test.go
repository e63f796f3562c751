package kernel_test

import (
	"testing"

	"github.com/bertc/bertc/kernel"
)

// This file owns the sentences of the text forms and of Spec.Valid; kernel_test.go has round trips.

const gemmText = "gemm in=f32 out=f32 math=f32 weight=f32 n=64 k=8"

func TestSpecErrorSentences(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "spec is empty"},
		{"conv n=1", `spec: unknown kind "conv"`},
		{gemmText + " n=3", `spec: expected a new key=value, found "n=3"`},
		{gemmText + " fast", `spec: expected a new key=value, found "fast"`},
		{gemmText + " color=red", `spec: unknown key "color"`},
		{"gemm n=-1", `spec: n: "-1" is not a size`},
		{"gemm n=99999999999", `spec: n: "99999999999" is not a size`},
		{"gemm in=f8", `spec: in: unknown dtype "f8"`},
		{"gemm eps=nan", `spec: eps: "nan" is not a positive number`},
		{"gemm n=4 k=4", "spec gemm n=4 k=4: dtypes must be f32 or bf16, those of the factors also i8"},
		{"gemm in=f32 out=f32 math=f32 weight=i8 n=4 k=4", "spec gemm in=f32 out=f32 math=f32 weight=i8 n=4 k=4: both factors must be i8 or none"},
		{"gemm in=i8 out=f32 math=i8 weight=i8 n=4 k=4", "spec gemm in=i8 out=f32 math=i8 weight=i8 n=4 k=4: dtypes must be f32 or bf16, those of the factors also i8"},
		{"gemm in=f32 out=f32 math=i8 weight=i8 n=4 k=131073", "spec gemm in=f32 out=f32 math=i8 weight=i8 n=4 k=131073: k is 131073, sums of more than 131072 products of codes do not fit i32"},
		{gemmText + " epilogue=gelu", "spec " + gemmText + ` epilogue=gelu: unknown epilogue operation "gelu"`},
		{gemmText + " epilogue=silu+bias", "spec " + gemmText + ` epilogue=silu+bias: epilogue operation "bias" is out of order`},
		{gemmText + " epilogue=rope heads=4 kvheads=4 headdim=16", "spec " + gemmText + " epilogue=rope heads=4 kvheads=4 headdim=16: rope of 128 columns does not fit n"},
		{gemmText + " prologue=batchnorm eps=1", "spec " + gemmText + ` prologue=batchnorm eps=1: unknown prologue "batchnorm"`},
		{gemmText + " prologue=rmsnorm", "spec " + gemmText + " prologue=rmsnorm: eps must be positive, found 0"},
		{"rowwise in=f32 out=f32 k=8", "spec rowwise in=f32 out=f32 k=8: a rowwise kernel needs k and a norm"},
		{"attention in=f32 out=f32 math=f32 heads=3 kvheads=2 headdim=8 scale=1", "spec attention in=f32 out=f32 math=f32 heads=3 kvheads=2 headdim=8 scale=1: heads must be a multiple of kvheads"},
		{"attention in=f32 out=f32 math=f32 heads=2 kvheads=2 headdim=8", "spec attention in=f32 out=f32 math=f32 heads=2 kvheads=2 headdim=8: scale must be positive, found 0"},
		{"gather weight=f32 out=f32", "spec gather out=f32 weight=f32: a gather needs k and a table layout"},
	} {
		if s, err := kernel.ParseSpec(c.text); err == nil || err.Error() != c.want {
			t.Errorf("%q is %q with the error\n%v\nwant\n%s", c.text, s, err, c.want)
		}
	}
}

// TestHostileSizes: sizes that would overflow are errors of Valid, so that nothing after it
// has to fear them.
func TestHostileSizes(t *testing.T) {
	for _, text := range []string{
		"gemm in=f32 out=f32 math=f32 weight=f32 n=1073741824 k=8",
		"gemm in=f32 out=f32 math=f32 weight=f32 n=8 k=1073741824",
		gemmText + " epilogue=rope heads=1 kvheads=1 headdim=1073741824",
		gemmText + " epilogue=rope heads=1073741824 kvheads=1073741824 headdim=1024",
		"attention in=f32 out=f32 math=f32 heads=1 kvheads=1 headdim=1073741824 scale=1",
		"attention in=f32 out=f32 math=f32 heads=1073741824 kvheads=1 headdim=8 scale=1",
		"rowwise in=f32 out=f32 k=1073741824 prologue=rmsnorm eps=1",
		"gather weight=f32 out=f32 k=1073741824 table=[n][k]",
	} {
		if s, err := kernel.ParseSpec(text); err == nil {
			t.Errorf("%s is a legal Spec", s)
		}
	}
	s := exampleSpecs()[0]
	s.K = -8
	if err := s.Valid(); err == nil {
		t.Error("a negative k is legal")
	}
}

func TestPlanErrorSentences(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", `plan "": expected a kind and a target`},
		{"gemm", `plan "gemm": expected a kind and a target`},
		{"gemm generic micro=4", `plan: micro: "4" is not a pair of sizes like 12x32`},
		{"gemm generic micro=4x-1", `plan: micro: "4x-1" is not a pair of sizes like 12x32`},
		{"gemm generic block=9999999x1", `plan: block: "9999999x1" is not a pair of sizes like 12x32`},
		{"gemm generic stages=4", `plan: unknown key "stages"`},
	} {
		if p, err := kernel.ParsePlan(c.text); err == nil || err.Error() != c.want {
			t.Errorf("%q is %q with the error\n%v\nwant\n%s", c.text, p, err, c.want)
		}
	}
}
