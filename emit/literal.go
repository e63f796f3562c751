package emit

import (
	"fmt"
	"reflect"
	"strings"

	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file writes values as Go source.

// constants are the names of the values of a type, from 0.
var constants = map[reflect.Type][]string{
	reflect.TypeFor[rt.Kind]():        {"rt.Gemm", "rt.Attention", "rt.Rowwise", "rt.Gather"},
	reflect.TypeFor[rt.DType]():       {"rt.F32", "rt.BF16", "rt.I32", "rt.I8"},
	reflect.TypeFor[rt.Norm]():        {"rt.NoNorm", "rt.RMSNorm", "rt.LayerNorm"},
	reflect.TypeFor[rt.Extent]():      {"rt.Tokens", "rt.Picked"},
	reflect.TypeFor[cuda.GridKind]():  {"cuda.GridTiles", "cuda.GridRows", "cuda.GridItems"},
	reflect.TypeFor[cuda.ParamKind](): {"cuda.ParamPointer", "cuda.ParamMap", "cuda.ParamShadow", "cuda.ParamShadowMap", "cuda.ParamStats", "cuda.ParamSlots", "cuda.ParamColSum", "cuda.ParamRows", "cuda.ParamItems", "cuda.ParamItemCount", "cuda.ParamScratch", "cuda.ParamTopK", "cuda.ParamTopIDs", "cuda.ParamTopLogits", "cuda.ParamTopSums"},
	reflect.TypeFor[cuda.Operand]():   {"cuda.OperandSrc", "cuda.OperandDst", "cuda.OperandRes", "cuda.OperandIndex", "cuda.OperandPos", "cuda.OperandW", "cuda.OperandBias", "cuda.OperandGamma", "cuda.OperandBeta", "cuda.OperandCos", "cuda.OperandSin", "cuda.OperandPosTable"},
}

// fields writes the fields of a struct that are not zero, and the named constants but Src, which
// is also what a parameter without operand has.
func fields(v reflect.Value) string {
	var parts []string
	for i := range v.NumField() {
		f := v.Field(i)
		if names := constants[f.Type()]; !f.IsZero() || names != nil && names[0] != "cuda.OperandSrc" {
			text := literal(f)
			if f.Kind() == reflect.Struct {
				text = f.Type().String() + text
			}
			parts = append(parts, v.Type().Field(i).Name+": "+text)
		}
	}
	return strings.Join(parts, ", ")
}

// literal writes a value, without the type of a composite.
func literal(v reflect.Value) string {
	if names, ok := constants[v.Type()]; ok {
		return names[v.Uint()]
	}
	switch v.Kind() {
	case reflect.Struct:
		return "{" + fields(v) + "}"
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, literal(v.Index(i)))
		}
		return v.Type().String() + "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprintf("%#v", v.Interface())
}
