package passes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
	"github.com/bertc/bertc/quant"
)

// Options says what to compile for.
type Options struct {
	// Math is the dtype of the factors of matmuls and attention: ir.F32 or ir.BF16; or ir.I8,
	// where those of attention and of some matmuls are bf16.
	Math ir.DType
	// Quant says which matmuls of ir.I8 are not done as the default is; nil is the default.
	Quant *quant.Config
	// Targets are names of kernel targets; each kernel gets a plan for each.
	Targets []string
	// MaxPositions is the number of rows of rotary tables: the longest sequence.
	MaxPositions int
	// Plans, when not nil, may give the plan for a Spec on a target, and where it is from;
	// otherwise kernel.Choose does.
	Plans func(s kernel.Spec, target string) (p kernel.Plan, from string, ok bool)
	// Observe, when not nil, is called after each pass.
	Observe func(p Pass, s *State, took time.Duration)
	// After, when not "", stops after the pass of that name.
	After string
}

// Run compiles g. The graph is not changed. With Options.After the result may be nil; Observe
// sees the state.
func Run(g *ir.Graph, o Options) (*program.Program, error) {
	if o.Math != ir.F32 && o.Math != ir.BF16 && o.Math != ir.I8 {
		return nil, fmt.Errorf("passes: math dtype %s is not f32, bf16 or i8", o.Math)
	}
	if o.Quant != nil && o.Math != ir.I8 {
		return nil, fmt.Errorf("passes: how matmuls are quantised is for i8, the math dtype is %s", o.Math)
	}
	if err := o.Quant.Check(); err != nil {
		return nil, fmt.Errorf("passes: %w", err)
	}
	for _, t := range o.Targets {
		if _, ok := kernel.LookupTarget(t); !ok {
			return nil, fmt.Errorf("passes: unknown target %q (known: %s)", t, strings.Join(kernel.Targets(), ", "))
		}
	}
	if o.After != "" && !slices.ContainsFunc(table, func(p Pass) bool { return p.Name == o.After }) {
		return nil, fmt.Errorf("passes: no pass is called %q (passes: %s)", o.After, strings.Join(Names(), ", "))
	}
	if err := ir.Verify(g); err != nil {
		return nil, err
	}
	s := &State{Options: o, Graph: g.Clone()}
	for _, p := range table {
		start := time.Now()
		if err := runPass(p, s); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		if o.Observe != nil {
			o.Observe(p, s, time.Since(start))
		}
		if p.Name == o.After {
			break
		}
	}
	return s.Program, nil
}

// Names returns the names of the passes in order.
func Names() []string {
	var names []string
	for _, p := range table {
		names = append(names, p.Name)
	}
	return names
}

// runPass runs p and checks the level's verifier and p.Ensures. A panic, which is a bug, comes
// back as an error that names the pass.
func runPass(p Pass, s *State) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic during the pass: %v", r)
		}
	}()
	if err := p.Run(s); err != nil {
		return err
	}
	if s.Program == nil {
		if err := ir.Verify(s.Graph); err != nil {
			return err
		}
	}
	if p.Ensures != nil {
		return p.Ensures(s)
	}
	return nil
}
