package ptx

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns what is asked of the machine code: ptxas moves instructions, and may undo what the
// text of a kernel overlaps.

// sass returns the machine code of an entry.
func sass(t *testing.T, e *entry) string {
	t.Helper()
	disassembler, err := exec.LookPath("nvdisasm")
	if err != nil {
		t.Skip("SKIP: nvdisasm (pip: nvidia-cuda-nvdisasm==13.2.51) is not installed")
	}
	ptxas, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("SKIP: ptxas (pip: nvidia-cuda-nvcc==13.0.88) is not installed")
	}
	file := filepath.Join(t.TempDir(), "k.ptx")
	if err := os.WriteFile(file, []byte(Module(e.text())), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{ptxas, "-arch=sm_90a", "-O3", file, "-o", file + ".cubin"}, {disassembler, "-c", file + ".cubin"}} {
		out, err := exec.Command(c[0], c[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c[0], err, out)
		}
		if c[0] == disassembler {
			return string(out)
		}
	}
	return ""
}

// TestFlashOverlap: the exponentials of a whole block stand between the wait for its scores and that for
// the values of the block before, whose products run meanwhile.
func TestFlashOverlap(t *testing.T) {
	code := sass(t, newFlash("attention", flashSpec(24, 1), newFlashTile(192)).entry)
	var counts []int
	for _, part := range strings.Split(code, "WARPGROUP.DEPBAR.LE gsb0, 0x1")[1:] {
		part, _, _ = strings.Cut(part, "WARPGROUP.DEPBAR.LE gsb0, 0x0")
		counts = append(counts, strings.Count(part, "MUFU.EX2"))
	}
	// 64 scores of a thread and two scales.
	if !slices.Contains(counts, flashKeys/2+2) {
		t.Errorf("%d exponentials run beside the products of values, want %d in one place", counts, flashKeys/2+2)
	}
}

// TestWgmmaLoop: the loop over K has its four products and neither fences nor loads.
func TestWgmmaLoop(t *testing.T) {
	s := wgmmaSpec(4096, 1536, kernel.RMSNorm, "bias+glu", ir.F32, ir.BF16)
	code := sass(t, newWgmmaGemm("gemm", s, wgmmaTile{m: 128, n: 256, stages: 4, cluster: 2, ahead: 4}).entry)
	first, last := strings.Index(code, "WARPGROUP.ARRIVE"), strings.Index(code, "WARPGROUP.DEPBAR.LE gsb0, 0x0")
	if first < 0 || last < first {
		t.Fatal("no loop of products in the code")
	}
	loop := code[first:last]
	loop = loop[:strings.LastIndex(loop, "BRA")]
	if n := strings.Count(loop, "HGMMA"); n != maxK16 {
		t.Errorf("%d products in the loop, want %d", n, maxK16)
	}
	if bad := regexp.MustCompile(`MEMBAR|LDG|LDL|STL|WARPSYNC`).FindString(loop); bad != "" {
		t.Errorf("%s in the loop of products:\n%s", bad, loop)
	}
}
