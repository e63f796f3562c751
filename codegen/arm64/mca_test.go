package arm64

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
)

// mcaVersions are the releases of LLVM whose models of these processors are known to be their own
// and not those of an older core; Debian 12 has 19.
var mcaVersions = []string{"llvm-mca-22", "llvm-mca-20", "llvm-mca-19"}

// mcaModels are processors with the number of vector pipes that LLVM's model has for them, which
// for the M1 is 3 (the model is of an older Apple core; others count 4).
var mcaModels = []struct {
	cpu    string
	pipes  int
	matrix bool // has BFMMLA and SMMLA
}{
	{"neoverse-n1", 2, false},
	{"neoverse-n2", 2, true},
	{"neoverse-v1", 4, true},
	{"neoverse-v2", 4, true},
	{"apple-m1", 3, false},
}

// shares are the parts of a pipe's cycles that must be products, by instruction and type of the
// weights. Widening bf16 weights takes 2 operations for 16 products of 8 rows, or of 4 where more
// would evict each other (kernel.Machine).
var shares = map[string]float64{"fmla f32": 0.95, "fmla bf16": 0.79, "bfmmla bf16": 0.78, "sdot i8": 0.95, "smmla i8": 0.78}

// TestStaticModel asks LLVM's models of processors for the cycles of the loops: the share of the
// vector pipes that multiplies.
func TestStaticModel(t *testing.T) {
	var mca string
	for _, name := range mcaVersions {
		if path, err := exec.LookPath(name); err == nil {
			mca = path
			break
		}
	}
	if mca == "" {
		t.Skipf("SKIP: none of %v (Debian: llvm-19) is installed", mcaVersions)
	}
	const turns = 200
	cycles := regexp.MustCompile(`Total Cycles: +(\d+)`)
	for _, c := range loopCases {
		p, l := c.loops(t)
		want := shares[p.Inst+" "+c.math.String()]
		inst, _ := c.backend.Target().Inst(p.Inst)
		matrix := inst.Rows > 1
		for _, m := range mcaModels {
			if matrix && !m.matrix || !matrix && m.matrix && c.math != ir.F32 {
				continue
			}
			cmd := exec.Command(mca, "-mtriple=aarch64", "-mcpu="+m.cpu, fmt.Sprint("-iterations=", turns))
			cmd.Stdin = strings.NewReader(strings.Join(l[:len(l)-1], "\n") + "\n") // without the branch
			out, err := cmd.CombinedOutput()
			found := cycles.FindSubmatch(out)
			if err != nil || found == nil {
				t.Fatalf("%s: %v\n%s", mca, err, out)
			}
			n, _ := strconv.Atoi(string(found[1]))
			turn := float64(n) / turns
			share := float64(l.products()) / turn / float64(m.pipes)
			t.Logf("%-25s %-11s %5.1f cycles a turn, %.1f %% of %d pipes multiply", c, m.cpu, turn, 100*share, m.pipes)
			if share < want {
				t.Errorf("%s on %s: %.1f %%, want %.0f %%", c, m.cpu, 100*share, 100*want)
			}
		}
	}
}
