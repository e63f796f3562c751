package passes

import (
	"fmt"
	"strings"
)

// This file owns the generated documentation of the passes.

const docsIntro = `# Passes

Generated from the table in passes/table.go by ` + "`go test ./passes -run TestDocs -update`" + `.

A model is compiled by these passes, in this order. The first ones change an ir.Graph, the later ones the program.Program
that is made of it. After each pass the verifier of its level runs, and what the pass promises is checked. The text after
every pass reads back: ` + "`bertc dump --after PASS`" + ` writes it, and a graph that was written before choose-plans compiles to
the same program as the one it came from.
`

// FormatDocs returns the text of docs/passes.md.
func FormatDocs() string {
	var b strings.Builder
	b.WriteString(docsIntro)
	for i, p := range table {
		fmt.Fprintf(&b, "\n## %d. %s\n\n%s\n", i+1, p.Name, p.Doc)
		var before []string
		for _, o := range order {
			if o.then == p.Name {
				before = append(before, fmt.Sprintf("- after %s: %s", o.first, o.why))
			}
		}
		if before != nil {
			fmt.Fprintf(&b, "\n%s\n", strings.Join(before, "\n"))
		}
	}
	return b.String()
}
