package heads

// This file owns token classification: from scores of tokens to entities, with the aggregation of
// Hugging Face's pipeline. Two rules are for Japanese. Bytes that stand for a character are one
// token. And where a script has no spaces, every piece of the vocabulary is a word: the pipeline
// would take the whole sentence for one.

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Aggregation is how tokens become entities.
type Aggregation string

// The aggregations. All but none join neighbours of one label, as B- and I- tell.
const (
	AggregateNone    Aggregation = "none"    // every token by itself
	AggregateSimple  Aggregation = "simple"  // every token has its own best label
	AggregateFirst   Aggregation = "first"   // a word has the label of its first token
	AggregateAverage Aggregation = "average" // a word has the best label of the mean of its tokens' scores
	AggregateMax     Aggregation = "max"     // a word has the label of its token with the highest score
)

// Check reports an aggregation that there is not; "" is AggregateSimple.
func (a Aggregation) Check() error {
	switch a {
	case "", AggregateNone, AggregateSimple, AggregateFirst, AggregateAverage, AggregateMax:
		return nil
	}
	return fmt.Errorf("aggregation %q: not one of none, simple, first, average, max", a)
}

// Entity is a part of a text with a label. Start and End are places in the text, Word is what
// stands there.
type Entity struct {
	Label string
	Score float64
	Word  string
	Start int
	End   int
}

// Token is a token of a text: its place in bytes, whether it stands for a byte, and its scores by
// label.
type Token struct {
	Start, End int
	Byte       bool
	Scores     []float64
}

// outside is the label of tokens that are in no entity.
const outside = "O"

// Entities returns the entities of a text, whose offsets are in bytes. Tokens that cover nothing
// are left out.
func Entities(text string, tokens []Token, labels []string, how Aggregation) []Entity {
	var words []Entity
	for _, group := range grouped(text, characters(text, tokens), how) {
		words = append(words, aggregate(group, labels, how))
	}
	if how != AggregateNone {
		words = join(words)
	}
	out := words[:0]
	for _, e := range words {
		e.Start, e.End = trim(text, e.Start, e.End)
		if e.Label == outside || e.Start == e.End {
			continue
		}
		e.Word = text[e.Start:e.End]
		out = append(out, e)
	}
	return out
}

// characters folds the bytes of a character into one token with the mean of their scores. A run
// of byte tokens has the place of all its characters together, and a token for each byte there.
func characters(text string, tokens []Token) []Token {
	var out []Token
	for i := 0; i < len(tokens); {
		t := tokens[i]
		n := 1
		for i+n < len(tokens) && t.Byte && tokens[i+n].Byte && tokens[i+n].Start == t.Start && tokens[i+n].End == t.End {
			n++
		}
		run := tokens[i : i+n]
		i += n
		switch {
		case t.Start == t.End:
		case !t.Byte || n != t.End-t.Start:
			out = append(out, Token{Start: t.Start, End: t.End, Scores: mean(run)})
		default:
			for at := t.Start; at < t.End; {
				_, size := utf8.DecodeRuneInString(text[at:])
				out = append(out, Token{Start: at, End: at + size, Scores: mean(run[at-t.Start:][:size])})
				at += size
			}
		}
	}
	return out
}

// grouped joins tokens into words where the aggregation looks at words.
func grouped(text string, tokens []Token, how Aggregation) [][]Token {
	var groups [][]Token
	for i, t := range tokens {
		byWord := how == AggregateFirst || how == AggregateAverage || how == AggregateMax
		if byWord && i > 0 && insideWord(text, t.Start) {
			groups[len(groups)-1] = append(groups[len(groups)-1], t)
			continue
		}
		groups = append(groups, []Token{t})
	}
	return groups
}

// aggregate returns the entity of a word.
func aggregate(word []Token, labels []string, how Aggregation) Entity {
	scores := word[0].Scores
	switch how {
	case AggregateAverage:
		scores = mean(word)
	case AggregateMax:
		for _, t := range word[1:] {
			if t.Scores[best(t.Scores)] > scores[best(scores)] {
				scores = t.Scores
			}
		}
	}
	label := best(scores)
	return Entity{Label: labels[label], Score: scores[label], Start: word[0].Start, End: word[len(word)-1].End}
}

// join joins neighbours of one label. A label B-X begins a new entity, I-X and X go on with one.
// The score is the mean over the parts.
func join(words []Entity) []Entity {
	var out []Entity
	parts, last := 0, ""
	for _, w := range words {
		label, begins := w.Label, false
		if rest, ok := strings.CutPrefix(label, "B-"); ok {
			label, begins = rest, true
		} else if rest, ok := strings.CutPrefix(label, "I-"); ok {
			label = rest
		}
		if n := len(out) - 1; n >= 0 && label == last && !begins {
			out[n].End = w.End
			out[n].Score += (w.Score - out[n].Score) / float64(parts+1)
			parts++
			continue
		}
		w.Label = label
		out = append(out, w)
		parts, last = 1, label
	}
	return out
}

// mean returns the mean of the tokens' scores, label by label.
func mean(tokens []Token) []float64 {
	out := make([]float64, len(tokens[0].Scores))
	for _, t := range tokens {
		for i, x := range t.Scores {
			out[i] += x / float64(len(tokens))
		}
	}
	return out
}
