package verify

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/tokenizer"
)

// This file owns texts: a file of lines as sequences of tokens, and batches of them.

const (
	// MaxTokens is the tokens of a batch, and of the longest text.
	MaxTokens = 512
	// maxText bounds a line.
	maxText = 1 << 20
)

// Text is one line as tokens. Rows are the tokens that the head is applied to: what was masked,
// every token, or the first, as the task has it.
type Text struct {
	IDs  []int32
	Rows []int32
}

// ReadTexts reads the lines of a file that are not blank, for the tokenizer and the task of m.
// For a masked-language head every maskEvery-th token of a text is masked, those whose index is
// the number of the text modulo maskEvery; 0 masks none, and the head is applied to every such token.
func ReadTexts(m *pipeline.Model, file string, maskEvery int) ([]Text, error) {
	if m.Tokenizer == nil {
		return nil, fmt.Errorf("model %s takes no text: it has no tokenizer.json", m.Name)
	}
	tok, err := tokenizer.Open(m.Tokenizer)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := reader{task: m.Task(), tok: tok, longest: min(MaxTokens, m.Config.MaxPositionEmbeddings), every: maskEvery}
	if mask, ok := tok.MaskID(); ok {
		r.mask = mask
	} else if r.task == bert.MaskedLM {
		return nil, fmt.Errorf("model %s: its tokenizer has no mask", m.Name)
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxText)
	var texts []Text
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		t, err := r.read(line, len(texts))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		texts = append(texts, t)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes", file, n+1, maxText)
	} else if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s: has no text", file)
	}
	return texts, nil
}

type reader struct {
	task    bert.Task
	tok     *tokenizer.Tokenizer
	mask    int32
	longest int
	every   int
}

func (r reader) read(line string, index int) (Text, error) {
	e, err := r.tok.Encode(line, tokenizer.Options{AddSpecial: true, MaxLength: r.longest})
	if err != nil {
		return Text{}, err
	}
	t := Text{IDs: e.IDs}
	at := 0 // among the tokens of the text itself
	for i := range t.IDs {
		switch {
		case r.task == bert.Encoder:
		case r.task == bert.MaskedLM:
			if e.Sequences[i] == tokenizer.InTemplate {
				continue
			}
			if at++; r.every == 0 {
				t.Rows = append(t.Rows, int32(i))
			} else if (at-1)%r.every == index%r.every {
				t.Rows = append(t.Rows, int32(i))
				t.IDs[i] = r.mask
			}
		case i == 0 || r.task == bert.TokenClassification || r.task == bert.QuestionAnswering:
			t.Rows = append(t.Rows, int32(i))
		}
	}
	return t, nil
}

// Batches packs texts into requests of at most MaxTokens tokens.
func Batches(texts []Text) []pipeline.Request {
	var all []pipeline.Request
	for _, t := range texts {
		if n := len(all); n == 0 || len(all[n-1].IDs)+len(t.IDs) > MaxTokens {
			all = append(all, pipeline.Request{Offsets: []int32{0}, Quiet: true})
		}
		r := &all[len(all)-1]
		first := int32(len(r.IDs))
		for i := range t.IDs {
			r.Positions = append(r.Positions, int32(i))
		}
		for _, row := range t.Rows {
			r.Rows = append(r.Rows, first+row)
		}
		r.IDs = append(r.IDs, t.IDs...)
		r.Offsets = append(r.Offsets, int32(len(r.IDs)))
	}
	return all
}
