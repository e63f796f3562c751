package nearest

import "testing"

func TestName(t *testing.T) {
	known := []string{"hidden_size", "num_hidden_layers", "vocab_size"}
	for word, want := range map[string]string{
		"hiden_size":  "hidden_size",
		"vocab-size":  "vocab_size",
		"layers":      "",
		"hidden_size": "hidden_size",
	} {
		if got := Name(word, known); got != want {
			t.Errorf("Name(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
