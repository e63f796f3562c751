package diff

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/program"
)

// This file owns recordings: what every step of a generated package wrote.

// recording is one run. steps has one entry for each step of the program.
type recording struct {
	tier    string
	gpu     bool // or the emulator of one
	tokens  int
	longest int
	rows    []int32 // tokens that the head was applied to
	steps   []pipeline.StepResult
}

// maxHeadRows bounds the rows that the head is applied to: its kernels do not depend on the row,
// and logits of every token would take more memory than all other steps together. It must not
// exceed what the driver asks for at a time.
const maxHeadRows = 16

// headRows spreads the rows of the head over all tokens, first and last included.
func headRows(tokens int) []int32 {
	n := min(tokens, maxHeadRows)
	rows := make([]int32, n)
	for i := range rows {
		rows[i] = int32(i * (tokens - 1) / max(n-1, 1))
	}
	return rows
}

// record runs the package in dir on a kernel set.
func (u *unit) record(ctx context.Context, dir, kernels string, in pipeline.Batch) (recording, error) {
	o := pipeline.DriverOptions{Kernels: kernels, MaxTokens: len(in.IDs), Observe: true}
	if gpu(kernels) {
		o.Kernels, o.Device = "", kernels
	}
	d, err := pipeline.StartDriver(ctx, dir, o)
	if err != nil {
		return recording{}, err
	}
	defer d.Close()
	r := recording{tier: d.Hello.Kernels, gpu: gpu(kernels), tokens: len(in.IDs), longest: longest(in)}
	if u.program.HeadStart() < len(u.program.Steps) {
		r.rows = headRows(len(in.IDs))
	}
	req := pipeline.Request{IDs: in.IDs, Positions: in.Positions, Offsets: in.Offsets, Rows: r.rows}
	err = d.Do(req, func(resp pipeline.Response) error {
		r.steps = append(r.steps, resp.Steps...)
		return nil
	})
	if err != nil {
		return r, err
	}
	if len(r.steps) != len(u.program.Steps) {
		return r, fmt.Errorf("%s: the package made %d steps, its program has %d", dir, len(r.steps), len(u.program.Steps))
	}
	return r, nil
}

// tensor returns the recorded result of step i.
func (u *unit) tensor(i int, s pipeline.StepResult) (*ir.Tensor, error) {
	step := u.program.Steps[i]
	dst := u.program.Buffer(step.Arg(program.Dst))
	t := dst.Type.DType
	if s.Name != step.Name || s.Rows < 1 || len(s.Data) != s.Rows*dst.RowBytes() {
		return nil, fmt.Errorf("step %s: the package recorded %d bytes for %d rows of step %q, expected rows of %s", step.Name, len(s.Data), s.Rows, s.Name, dst.Type)
	}
	out := ir.NewTensor(t, s.Rows, dst.Cols())
	if !decode(t, out.Data, s.Data) {
		return nil, fmt.Errorf("step %s: results of type %s cannot be compared", step.Name, t)
	}
	return out, nil
}

// decode reads little-endian elements, as many as dst holds. It reports whether it knows the type.
func decode(t ir.DType, dst []float64, src []byte) bool {
	for i := range dst {
		switch t {
		case ir.F32:
			dst[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])))
		case ir.BF16:
			dst[i] = float64(num.FromBF16(binary.LittleEndian.Uint16(src[2*i:])))
		case ir.I32:
			dst[i] = float64(int32(binary.LittleEndian.Uint32(src[4*i:])))
		default:
			return false
		}
	}
	return true
}

// encode is the inverse of decode, for values that the type can hold.
func encode(t ir.DType, src []float64) []byte {
	var out []byte
	for _, x := range src {
		switch t {
		case ir.F32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(x)))
		case ir.BF16:
			out = binary.LittleEndian.AppendUint16(out, num.BF16(float32(x)))
		case ir.I32:
			out = binary.LittleEndian.AppendUint32(out, uint32(int32(x)))
		}
	}
	return out
}
