package heads

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestWindows(t *testing.T) {
	for _, c := range []struct {
		n, room, stride int
		want            [][2]int
	}{
		{0, 5, 0, [][2]int{{0, 0}}},
		{5, 5, 0, [][2]int{{0, 5}}},
		{6, 5, 0, [][2]int{{0, 5}, {1, 6}}},
		{12, 5, 2, [][2]int{{0, 5}, {3, 8}, {6, 11}, {7, 12}}},
		{11, 5, 2, [][2]int{{0, 5}, {3, 8}, {6, 11}}},
		{3, 1, 0, [][2]int{{0, 1}, {1, 2}, {2, 3}}},
	} {
		if got, err := Windows(c.n, c.room, c.stride); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%d tokens, room %d, stride %d: got %v, %v, want %v", c.n, c.room, c.stride, got, err, c.want)
		}
	}
	for _, c := range [][3]int{{5, 0, 0}, {5, -3, 0}, {5, 4, 4}} {
		if got, err := Windows(c[0], c[1], c[2]); err == nil {
			t.Errorf("%v: got %v", c, got)
		}
	}
}

func TestCentral(t *testing.T) {
	got := Central(11, [][2]int{{0, 5}, {3, 8}, {6, 11}})
	if want := []int{0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for n := range 40 {
		for room := 1; room < 9; room++ {
			for stride := range room {
				ws, err := Windows(n, room, stride)
				if err != nil {
					t.Fatal(err)
				}
				for token, w := range Central(n, ws) {
					if token < ws[w][0] || token >= ws[w][1] {
						t.Fatalf("%d tokens in %v: token %d is not in window %d", n, ws, token, w)
					}
				}
			}
		}
	}
}

func TestRuler(t *testing.T) {
	text := "a🗼か\u3099ﾊ𠮷x"
	for at := range text {
		wantPoints := len([]rune(text[:at]))
		wantUnits := wantPoints + strings.Count(text[:at], "🗼") + strings.Count(text[:at], "𠮷")
		for unit, want := range map[Unit]int{CodePoints: wantPoints, UTF16: wantUnits, Bytes: at} {
			r := NewRuler(text, unit)
			if got := r.At(at); got != want {
				t.Errorf("byte %d in %q: got %d, want %d", at, unit, got, want)
			}
			if got := r.At(0); got != 0 {
				t.Errorf("back to the beginning: got %d", got)
			}
		}
	}
}

var tagLabels = []string{"O", "B-X", "I-X", "B-Y"}

// one is the scores of a label with p, the rest on O.
func one(label int, p float64) []float64 {
	s := make([]float64, len(tagLabels))
	s[0] = 1 - p
	s[label] += p
	return s
}

func TestEntities(t *testing.T) {
	japanese := "山田太郎と東京"
	place := func(n int) int { return 3 * n }
	tokens := []Token{
		{Start: 0, End: 0, Scores: one(3, 1)}, // the mark of a beginning covers nothing
		{Start: place(0), End: place(2), Scores: one(1, 0.9)},
		{Start: place(2), End: place(4), Scores: one(2, 0.7)},
		{Start: place(4), End: place(5), Scores: one(0, 1)},
		{Start: place(5), End: place(7), Scores: one(3, 0.8)},
	}
	want := []Entity{{"X", 0.8, "山田太郎", 0, place(4)}, {"Y", 0.8, "東京", place(5), place(7)}}
	for _, how := range []Aggregation{"", AggregateSimple, AggregateFirst, AggregateAverage, AggregateMax} {
		equalEntities(t, string(how), Entities(japanese, tokens, tagLabels, how), want)
	}
	equalEntities(t, "none", Entities(japanese, tokens, tagLabels, AggregateNone),
		[]Entity{{"B-X", 0.9, "山田", 0, place(2)}, {"I-X", 0.7, "太郎", place(2), place(4)}, {"B-Y", 0.8, "東京", place(5), place(7)}})
	// Two entities of one kind side by side are told apart by B-.
	tokens[2].Scores = one(1, 0.7)
	if got := Entities(japanese, tokens, tagLabels, AggregateSimple); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

// TestWords: in scripts with spaces the aggregations look at words.
func TestWords(t *testing.T) {
	text := "unhappy cat"
	tokens := []Token{{Start: 0, End: 2, Scores: one(1, 0.6)}, {Start: 2, End: 7, Scores: one(0, 0.9)}, {Start: 7, End: 11, Scores: one(3, 0.7)}}
	for how, want := range map[Aggregation][]Entity{
		AggregateSimple:  {{"X", 0.6, "un", 0, 2}, {"Y", 0.7, "cat", 8, 11}},
		AggregateFirst:   {{"X", 0.6, "unhappy", 0, 7}, {"Y", 0.7, "cat", 8, 11}},
		AggregateAverage: {{"Y", 0.7, "cat", 8, 11}}, // O has (0.4 + 1) / 2
		AggregateMax:     {{"Y", 0.7, "cat", 8, 11}},
	} {
		equalEntities(t, string(how), Entities(text, tokens, tagLabels, how), want)
	}
}

// TestCharacters: a run of bytes becomes its characters, each with the mean of its bytes.
func TestCharacters(t *testing.T) {
	text := "aﾊé"
	var tokens []Token
	tokens = append(tokens, Token{Start: 0, End: 1, Scores: one(0, 1)})
	for n := range 5 {
		tokens = append(tokens, Token{Start: 1, End: 6, Byte: true, Scores: one(1, float64(n)/10)})
	}
	got := characters(text, tokens)
	if len(got) != 3 || got[1].Start != 1 || got[1].End != 4 || got[2].Start != 4 || got[2].End != 6 {
		t.Fatalf("got %v", got)
	}
	if math.Abs(got[1].Scores[1]-0.1) > 1e-12 || math.Abs(got[2].Scores[1]-0.35) > 1e-12 {
		t.Errorf("got %v", got)
	}
}

func equalEntities(t *testing.T, name string, got, want []Entity) {
	t.Helper()
	ok := slices.EqualFunc(got, want, func(a, b Entity) bool {
		near := math.Abs(a.Score-b.Score) < 1e-12
		a.Score = b.Score
		return near && a == b
	})
	if !ok {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}

func TestSpans(t *testing.T) {
	start := []float32{9, 50, 0, 3, 0, 50} // tokens 1 and 5 are not of the context
	end := []float32{9, 50, 2, 0, 3, 50}
	spans, null := Spans(start, end, 2, 5, 0, 2, 3)
	if len(spans) != 3 || spans[0].First != 3 || spans[0].Last != 4 || !slices.IsSortedFunc(spans, func(a, b Span) int { return int(math.Copysign(1, b.Score-a.Score)) }) {
		t.Fatalf("got %v", spans)
	}
	sum := math.Exp(9) + 1 + math.Exp(3) + 1
	if want := math.Exp(9) / sum * math.Exp(9) / (math.Exp(9) + math.Exp(2) + 1 + math.Exp(3)); math.Abs(null-want) > 1e-12 {
		t.Errorf("no answer: got %v, want %v", null, want)
	}
	for _, s := range spans {
		if s.Last-s.First > 1 {
			t.Errorf("%v is longer than 2 tokens", s)
		}
	}
	if same, _ := Spans(make([]float32, 4), make([]float32, 4), 1, 4, -1, 9, 2); same[0].First != 1 || same[0].Last != 1 || same[1].Last != 2 {
		t.Errorf("among equals: got %v", same)
	}
}

func TestAnswers(t *testing.T) {
	text := "a 本 b"
	places := [][2]int{{0, 1}, {1, 5}, {5, 7}, {5, 6}}
	place := func(n int) (int, int) { return places[n][0], places[n][1] }
	var a Answers
	a.Add(text, []Span{{1, 1, 0.5}, {3, 3, 0.4}}, 0.3, place) // the second is a space
	a.Add(text, []Span{{1, 1, 0.6}, {0, 0, 0.6}}, 0.2, place)
	got, null := a.Best(5, true)
	want := []Answer{{"a", 0.6, 0, 1}, {"本", 0.6, 2, 5}, {"", 0.2, 0, 0}}
	if !slices.Equal(got, want) || null != 0.2 {
		t.Errorf("got %v, %v, want %v", got, null, want)
	}
}

func TestPool(t *testing.T) {
	hidden := []float32{1, -2, 3, 4, 5, -6} // three tokens of two
	for how, want := range map[Pooling][]float32{
		PoolCLS: {1, -2}, PoolLast: {5, -6}, PoolMax: {5, 4},
		PoolMean: {3, float32(-4.0 / 3)}, PoolWeightedMean: {22.0 / 6, -2},
	} {
		if got := Vector(Pool(hidden, 2, how), 2, false); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", how, got, want)
		}
	}
	if got := Vector(Pool(hidden, 2, PoolLast), 1, true); !slices.Equal(got, []float32{1}) {
		t.Errorf("one dimension of length 1: got %v", got)
	}
	if got := Vector(Pool([]float32{0, 0}, 2, PoolMean), 2, true); !slices.Equal(got, []float32{0, 0}) {
		t.Errorf("zeros: got %v", got)
	}
}

func TestPack(t *testing.T) {
	got := Pack([]int{3, 9, 3, 4, 20}, 8)
	want := [][]int{{4}, {1}, {3, 0}, {2}}
	if !slices.EqualFunc(got, want, slices.Equal[[]int]) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Pack(nil, 8); got != nil {
		t.Errorf("nothing: got %v", got)
	}
}

func TestScores(t *testing.T) {
	logits := []float32{0, 1, -1}
	if got := Scores(Regression, logits); !slices.Equal(got, []float64{0, 1, -1}) {
		t.Errorf("regression: got %v", got)
	}
	if got := Scores(MultiLabel, logits); got[0] != 0.5 || math.Abs(got[1]+got[2]-1) > 1e-15 {
		t.Errorf("multi label: got %v", got)
	}
	single := Scores(SingleLabel, []float32{1000, 1000, -1000})
	if !slices.Equal(single, []float64{0.5, 0.5, 0}) {
		t.Errorf("single label: got %v", single)
	}
	if got := Rank([]string{"a", "b", "c"}, single, 2); len(got) != 2 || got[0].Label != "a" || got[1].Label != "b" {
		t.Errorf("rank: got %v", got)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Long: LongTruncate, MaxLength: 8, Unit: UTF16, Stride: 2, BatchTokens: 1}} {
		if err := o.Check(8, false); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Options{{Long: "x"}, {Long: LongWindow}, {Unit: "x"}, {MaxLength: 9}, {MaxLength: -1}, {Stride: -1}, {BatchTokens: -1}} {
		if err := o.Check(8, false); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
