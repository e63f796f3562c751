package program_test

import (
	"testing"

	"github.com/bertc/bertc/program"
)

// FuzzParseProgram: Parse and Verify do not panic, and what Parse accepts prints as a text that it
// reads back as the same.
func FuzzParseProgram(f *testing.F) {
	f.Add(norms) // small, because the fuzzer minimizes every text that reaches new code
	f.Add(attention)
	f.Add("program @g() {\n  weight w = f32[4,2] [n][k] interleave=2\n    part zeros [4,2]\n  weight r = f32[4,2] [n][k]\n    rope sin theta=1e4 headdim=4 positions=4\n  weight t = i8[3] [n]\n    blob tokenizer\n  buffer x = temp f32[T,8] @4\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := program.Parse(text)
		if err != nil {
			return
		}
		once := p.String()
		q, err := program.Parse(once)
		if err != nil {
			t.Fatalf("%q was accepted and printed as %q: %v", text, once, err)
		}
		if again := q.String(); again != once {
			t.Fatalf("%q prints as %q, then as %q", text, once, again)
		}
		if a, b := program.Verify(p), program.Verify(q); (a == nil) != (b == nil) {
			t.Fatalf("%q: Verify says %v, and of what was read back %v", once, a, b)
		}
	})
}
