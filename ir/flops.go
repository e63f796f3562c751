package ir

// This file owns the flop counts of the op table.

// FlopsOf returns the arithmetic operations of v as a dim; a group counts its body.
func FlopsOf(v *Value) Dim {
	var sum Dim
	if v.Body != nil {
		for _, w := range v.Body.Values {
			sum = sum.Add(FlopsOf(w))
		}
	}
	if v.Op.Flops == nil {
		return sum
	}
	args := make([]Type, len(v.Args))
	for i, a := range v.Args {
		args[i] = a.Type
	}
	return v.Op.Flops(args, v.Type, v.Attrs)
}

func flopsResult(_ []Type, result Type, _ any) Dim { return result.Elems() }

func flopsFirst(args []Type, _ Type, _ any) Dim { return args[0].Elems() }

func flopsTimes(n int) func([]Type, Type, any) Dim {
	return func(_ []Type, result Type, _ any) Dim { return Const(n).Mul(result.Elems()) }
}

func flopsDot(args []Type, result Type, _ any) Dim {
	return Const(2).Mul(result.Elems()).Mul(args[0].Last())
}

func flopsLinear(args []Type, result Type, attrs any) Dim {
	n := flopsDot(args, result, attrs)
	if len(args) == 3 {
		n = n.Add(result.Elems())
	}
	return n
}

// flopsAttention counts two products of T×D×T and a softmax for each head.
func flopsAttention(args []Type, result Type, attrs any) Dim {
	t, heads := result.Dims[0], Const(attrs.(*AttentionAttrs).Heads)
	return Const(4).Mul(t).Mul(result.Elems()).Add(Const(6).Mul(heads).Mul(t).Mul(t))
}
