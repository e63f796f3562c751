package ptx

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/kernel"
)

// ptxasTable has the registers of every kernel of the full size.
const ptxasTable = "testdata/ptxas.txt"

// TestPtxas assembles every kernel of the full size, with the best plan of each instruction, and
// compares registers and shared memory with the table. -update rewrites it.
func TestPtxas(t *testing.T) {
	p := fullSize(t)
	var texts []string
	type row struct {
		entry           string
		threads, shared int
	}
	var rows []row
	add := func(u Unit) {
		texts = append(texts, u.PTX)
		for _, v := range u.Kernel.Variants {
			for _, l := range v.Launches {
				rows = append(rows, row{l.Entry, l.Threads, l.Shared})
			}
		}
	}
	for _, k := range p.Kernels {
		for _, plan := range bestPlans(k.Spec) {
			symbol := k.Name
			if plan.Inst != "" {
				symbol += "_" + plan.Inst
			}
			u, err := Emit(identifier(symbol), kernel.Kernel{Spec: k.Spec, Plan: plan})
			if err != nil {
				t.Fatal(err)
			}
			add(u)
		}
	}
	add(TopK("topk", p.Kernel("logits").Spec.N))
	registers := map[string]string{}
	report := assemble(t, Module(texts...))
	for _, m := range regexp.MustCompile(`(?s)Compiling entry function '([^']*)'.*?Used (\d+) registers`).FindAllStringSubmatch(report, -1) {
		registers[m[1]] = m[2]
	}
	for _, r := range rows {
		// CUDA C Programming Guide, compute capability 9.0: registers and shared memory of a multiprocessor, of
		// which each CTA takes 1024 bytes more than it asks for.
		n, _ := strconv.Atoi(registers[r.entry])
		if strings.Contains(r.entry, "_wgmma_") && r.threads == 2*warpgroup && (2*n*r.threads > 65536 || 2*(r.shared+1024) > 233472) {
			t.Errorf("two CTAs of %s do not fit a multiprocessor: %d registers, %d bytes of shared memory", r.entry, n, r.shared)
		}
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "entry\tthreads\tregisters\tshared bytes\n")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\n", r.entry, r.threads, registers[r.entry], r.shared)
	}
	w.Flush()
	if *filetest.Update {
		if err := os.WriteFile(ptxasTable, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(ptxasTable)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s differs from what ptxas reports (-update rewrites it):\n%s", ptxasTable, b.Bytes())
	}
}

// bestPlans returns the legal plan of s with the lowest cost for each instruction.
func bestPlans(s kernel.Spec) []kernel.Plan {
	var best []kernel.Plan
next:
	for p := range kernel.Space(s, TargetName) {
		for i := range best {
			if best[i].Inst == p.Inst {
				if kernel.Cost(s, p) < kernel.Cost(s, best[i]) {
					best[i] = p
				}
				continue next
			}
		}
		best = append(best, p)
	}
	return best
}

// identifier makes a name of PTX of one of a program.
func identifier(name string) string { return regexp.MustCompile(`\W`).ReplaceAllString(name, "_") }
