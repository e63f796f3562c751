package heads

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzEntities: whatever the text and the scores, entities lie in the text, in order, apart from
// each other, and between whole characters.
func FuzzEntities(f *testing.F) {
	f.Add("山田 a🗼か\u3099ﾊﾟ b", uint64(1), byte(0))
	f.Add("Hello, world", uint64(2), byte(3))
	aggregations := []Aggregation{AggregateNone, AggregateSimple, AggregateFirst, AggregateAverage, AggregateMax}
	f.Fuzz(func(t *testing.T, text string, seed uint64, how byte) {
		text = strings.ToValidUTF8(text, "?")
		rng := rand.New(rand.NewPCG(seed, 1))
		scores := func() []float64 { return []float64{rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()} }
		var tokens []Token
		for at := 0; at < len(text); {
			end := at
			for n := rng.IntN(4); n >= 0 && end < len(text); n-- {
				_, size := utf8.DecodeRuneInString(text[end:])
				end += size
			}
			if rng.IntN(3) == 0 {
				for range end - at {
					tokens = append(tokens, Token{Start: at, End: end, Byte: true, Scores: scores()})
				}
			} else {
				tokens = append(tokens, Token{Start: at, End: end, Scores: scores()})
			}
			at = end
		}
		last := 0
		for _, e := range Entities(text, tokens, tagLabels, aggregations[int(how)%len(aggregations)]) {
			if e.Start < last || e.End <= e.Start || e.End > len(text) || e.Word != text[e.Start:e.End] || !utf8.ValidString(e.Word) || !(e.Score >= 0 && e.Score <= 1) {
				t.Fatalf("%q: %+v after %d", text, e, last)
			}
			last = e.End
		}
	})
}
