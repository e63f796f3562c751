package emulator

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/runtime/cuda"
)

// kernels write and read a word without waiting for the launch ahead.
const kernels = `.version 8.0
.target sm_90a
.address_size 64
.visible .entry write(.param .u64 p) {
	.reg .b32 %r; .reg .b64 %rd;
	ld.param.u64 %rd, [p]; mov.u32 %r, 1; st.global.u32 [%rd], %r; ret;
}
.visible .entry read(.param .u64 p) {
	.reg .b32 %r; .reg .b64 %rd;
	ld.param.u64 %rd, [p]; ld.global.u32 %r, [%rd]; ret;
}`

// TestOrder: what a stream, a graph and the copies of the host order, and that a dependent launch is not behind
// the one ahead.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		what  string // (…) is a graph, / goes on with another stream; all reads depend on what is ahead
		fault bool
	}{
		{"write read", true},
		{"write in read", false},
		{"write out read", false},
		{"write sync read", false},
		{"write / read", false},
		{"( write read )", true},
		{"write ( read )", false},
		{"( write ) read", false},
		{"( write ) ( read )", false},
	} {
		d := Open(1, 1)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(d.Load(kernels))
		p, err := d.Alloc(4)
		must(err)
		params := binary.LittleEndian.AppendUint64(nil, uint64(p[0]))
		words := strings.Fields(c.what)
		s, err := d.NewStream()
		must(err)
		launch := func(entry string) error {
			f, err := d.Function(entry, 0)
			must(err)
			return s.Launch(f, cuda.LaunchSize{Grid: 1, Threads: 32, Dependent: entry == "read"}, params, []int{0})
		}
		for i := 0; i < len(words) && err == nil; i++ {
			switch word := words[i]; word {
			case "in":
				must(s.CopyIn(p[0], make([]byte, 4)))
			case "out":
				must(s.CopyOut(make([]byte, 4), p[0]))
			case "sync":
				must(s.Sync())
			case "/":
				s, err = d.NewStream()
				must(err)
			case "(":
				g, failed := s.Capture(func() error {
					for i++; words[i] != ")"; i++ {
						must(launch(words[i]))
					}
					return nil
				})
				must(failed)
				err = s.LaunchGraph(g)
			default:
				err = launch(word)
			}
		}
		var r *emu.Report
		if fault := errors.As(err, &r) && r.Kind == emu.Dependency; fault != c.fault || !fault && err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
