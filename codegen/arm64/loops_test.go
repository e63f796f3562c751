package arm64

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file reads the loops of emitted code back, and holds them against kernel.TileOf, by which
// plans are chosen.

// loop is an innermost loop: its instructions as GNU as reads them.
type loop []string

// goInstructions translates the general instructions that loops have.
var goInstructions = []struct{ from, to string }{
	{`^ADD \$(\d+), R(\d+), R(\d+)$`, "add x$3, x$2, #$1"},
	{`^ADD \$-(\d+), R(\d+), R(\d+)$`, "sub x$3, x$2, #$1"},
	{`^SUBS \$(\d+), R(\d+), R(\d+)$`, "subs x$3, x$2, #$1"},
	{`^BNE (\w+)$`, "b.ne $1"},
}

func gnuLine(t *testing.T, line string) string {
	if _, gnu, ok := strings.Cut(line, "// "); ok {
		return gnu
	}
	for _, g := range goInstructions {
		if re := regexp.MustCompile(g.from); re.MatchString(line) {
			return re.ReplaceAllString(line, g.to)
		}
	}
	t.Fatalf("no translation of %q", line)
	return ""
}

// macs matches multiply-accumulates of loops.
var macs = regexp.MustCompile(`\b(fmla|bfmmla|sdot|smmla)\b`)

// productLoops returns the loops of a function that multiply, in order.
func productLoops(t *testing.T, asm string) []loop {
	var loops []loop
	begin := regexp.MustCompile(`^(\w+):$`)
	var body []string
	label := ""
	for line := range strings.SplitSeq(asm, "\n") {
		line = strings.TrimSpace(line)
		if m := begin.FindStringSubmatch(line); m != nil {
			label, body = m[1], nil
			continue
		}
		body = append(body, line)
		if label == "" || line != "BNE "+label {
			continue
		}
		if l := fmt.Sprint(body); macs.MatchString(l) {
			var gnu loop
			for _, line := range body {
				gnu = append(gnu, gnuLine(t, line))
			}
			loops = append(loops, gnu)
		}
		label = ""
	}
	return loops
}

func (l loop) count(prefixes ...string) int {
	n := 0
	for _, line := range l {
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				n++
			}
		}
	}
	return n
}

// products is the number of multiply-accumulates.
func (l loop) products() int { return len(macs.FindAllString(strings.Join(l, "\n"), -1)) }

// loopCase is a kernel of the size of a layer on a tier: a matmul of K steps, or attention on
// heads of 96 when k is 0.
type loopCase struct {
	backend *Backend
	math    ir.DType
	k       int
}

var loopCases = []loopCase{
	{New(), ir.F32, 1536}, {New(), ir.F32, 4096}, {New(), ir.F32, 0},
	{New(), ir.BF16, 1536}, {New(), ir.BF16, 4096},
	{NewBF16(), ir.BF16, 1536}, {NewBF16(), ir.BF16, 4096}, {NewBF16(), ir.BF16, 0},
	{NewDotProd(), ir.I8, 1536}, {NewDotProd(), ir.I8, 4096},
	{NewBF16(), ir.I8, 1536}, {NewBF16(), ir.I8, 4096},
}

func (c loopCase) spec() kernel.Spec {
	s := kernel.Spec{Kind: kernel.Gemm, In: c.math, Out: c.math, Math: c.math, Weight: c.math, N: 1536, K: c.k}
	if c.math == ir.I8 {
		s.In, s.Out = ir.BF16, ir.BF16
	}
	if c.k == 0 {
		s = kernel.Spec{Kind: kernel.Attention, In: c.math, Out: c.math, Math: c.math, Heads: 16, KVHeads: 1, HeadDim: 96, Scale: 0.1}
	}
	return s
}

// loops returns the plan of the case and the loop of its tallest tile, which is the last one.
func (c loopCase) loops(t *testing.T) (kernel.Plan, loop) {
	target := c.backend.Target().Name
	s := c.spec()
	p, ok := kernel.Choose(s, target)
	if !ok {
		t.Fatal("no plan")
	}
	u, err := c.backend.Emit("k", kernel.Kernel{Spec: s, Plan: p})
	if err != nil {
		t.Fatal(err)
	}
	function := "TEXT ·kBlock"
	if c.k == 0 {
		function = "TEXT ·kAttend"
	}
	_, text, _ := strings.Cut(u.Asm, function)
	loops := productLoops(t, text)
	longest := slices.MaxFunc(loops, func(a, b loop) int { return a.products() - b.products() })
	for _, l := range slices.Backward(loops) {
		if 4*l.products() > longest.products() { // else it is for what is left of K
			return p, l
		}
	}
	return p, longest
}

func (c loopCase) String() string {
	what := fmt.Sprintf("k=%d", c.k)
	if c.k == 0 {
		what = "attention"
	}
	return fmt.Sprintf("%s %s %s", c.backend.Target().Name, c.math, what)
}

// TestLoops: the loop that takes the time has the loads and operations that the plan's tile says,
// nothing is spilled, and little is left over.
func TestLoops(t *testing.T) {
	for _, c := range loopCases {
		p, l := c.loops(t)
		inst, _ := c.backend.Target().Inst(p.Inst)
		tile := inst.TileOf(c.spec().Weight, p.MicroM)
		turns := l.products() / tile.MACs
		for what, n := range map[string][2]int{
			"multiply-accumulates":    {l.products(), turns * tile.MACs},
			"other vector operations": {l.count("shl", "and v", "zip"), turns * tile.Vector},
			"loads":                   {l.count("ldr"), turns * tile.Loads},
			"stores":                  {l.count("str"), 0},
		} {
			if n[0] != n[1] {
				t.Errorf("%s, %s: %d %s, want %d", c, p, n[0], what, n[1])
			}
		}
		rest := len(l) - turns*(tile.MACs+tile.Vector+tile.Loads)
		if t.Logf("%s: %s: %d products of %d instructions", c, p, turns*tile.MACs, len(l)); rest*8 > len(l) {
			t.Errorf("%s: %d of %d instructions only count", c, rest, len(l))
		}
	}
}
