package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// This file owns the report, its text and its JSON.

// Step is the comparison of what one step wrote, a being B's and b A's, over all tokens.
type Step struct {
	Name    string  `json:"step"`
	Error   float64 `json:"error"`   // ‖a−b‖/‖b‖
	Centred float64 `json:"centred"` // ‖a−b‖/‖b − mean of b's rows‖
	Cosine  float64 `json:"cosine"`  // a·b/(‖a‖‖b‖)
}

// MarshalJSON writes figures that are not finite, of results that are not, as null.
func (s Step) MarshalJSON() ([]byte, error) {
	finite := func(x float64) *float64 {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
		return &x
	}
	return json.Marshal(struct {
		Name    string   `json:"step"`
		Error   *float64 `json:"error"`
		Centred *float64 `json:"centred"`
		Cosine  *float64 `json:"cosine"`
	}{s.Name, finite(s.Error), finite(s.Centred), finite(s.Cosine)})
}

// Answers is how often both sides gave the same answer: the largest logit is in the same place.
type Answers struct {
	Same      int     `json:"same"`
	Of        int     `json:"of"`
	What      string  `json:"what"`
	Agreement float64 `json:"agreement"`
}

// Report is the result of a comparison; steps are in the order of the program.
type Report struct {
	A       string   `json:"a"`
	B       string   `json:"b"`
	Texts   int      `json:"texts"`
	Tokens  int      `json:"tokens"`
	Steps   []Step   `json:"steps"`
	Answers *Answers `json:"answers,omitempty"` // of a head that chooses
}

// Error returns the error of the last hidden states.
func (r Report) Error() float64 { return r.step(hidden).Error }

// step returns a step of the report, the zero Step if there is none.
func (r Report) step(name string) Step {
	for _, s := range r.Steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}

// WriteText writes a table.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s against %s, %d texts, %d tokens\n\n", r.B, r.A, r.Texts, r.Tokens)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "after\terror\tcentred\tcosine")
	for _, s := range r.Steps {
		fmt.Fprintf(t, "%s\t%.2g\t%.2g\t%.6f\n", s.Name, s.Error, s.Centred, s.Cosine)
	}
	t.Flush()
	if a := r.Answers; a != nil {
		fmt.Fprintf(&b, "\nThe same answer for %d of %d %s (%.4f).\n", a.Same, a.Of, a.What, a.Agreement)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes one object.
func (r Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }
