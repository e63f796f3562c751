package tokenizer_test

// This file checks the results that Hugging Face tokenizers gave for two
// whole vocabularies: the tiny model's and, where it is at hand, LLM-jp's.

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/bertc/bertc/tokenizer"
	"github.com/bertc/bertc/tokenizer/hf"
)

// tinyDir is the directory of the tiny model.
const tinyDir = "../models/tiny"

// largeDir returns the directory of the LLM-jp tokenizer, or skips the test.
func largeDir(t testing.TB) string {
	t.Helper()
	shared := os.Getenv("BERTC_SHARED")
	if shared == "" {
		shared = "../../shared"
	}
	dir := filepath.Join(shared, "models", "tokenizers", "llm-jp-v2.2-100k")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the LLM-jp tokenizer is not there; set BERTC_SHARED to the directory that holds models/tokenizers")
	}
	return dir
}

// open returns the tokenizer of the tokenizer.json in dir.
func open(t testing.TB, dir string) *tokenizer.Tokenizer {
	t.Helper()
	image, err := hf.Load(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// span is an offset as the conformance data has it.
type span [2]int32

type conformance struct {
	VocabSize int `json:"vocab_size"`
	Cases     []struct {
		Text        string
		IDs         []int32
		Tokens      []string
		Offsets     []span
		ByteOffsets []span  `json:"byte_offsets"`
		IDsSpecial  []int32 `json:"ids_special"`
		Mask        []int   `json:"special_tokens_mask"`
		Decoded     string
		DecodedSkip string `json:"decoded_skip"`
	}
	Pairs []struct {
		A, B        string
		IDs         []int32
		TypeIDs     []int32 `json:"type_ids"`
		Offsets     []span
		SequenceIDs []*int8 `json:"sequence_ids"`
	}
	Truncation []struct {
		Text      string
		MaxLength int `json:"max_length"`
		IDs       []int32
	}
}

func readConformance(t testing.TB, dir string) conformance {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "conformance.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c conformance
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConformanceTiny(t *testing.T)  { testConformance(t, tinyDir) }
func TestConformanceLarge(t *testing.T) { testConformance(t, largeDir(t)) }

func testConformance(t *testing.T, dir string) {
	tok := open(t, dir)
	data := readConformance(t, dir)
	if tok.VocabSize() != data.VocabSize {
		t.Errorf("VocabSize() = %d, want %d", tok.VocabSize(), data.VocabSize)
	}
	for _, c := range data.Cases {
		e := encode(t, tok, c.Text, tokenizer.Options{})
		same(t, c.Text, "ids", e.IDs, c.IDs)
		same(t, c.Text, "tokens", tokens(tok, e.IDs), c.Tokens)
		same(t, c.Text, "offsets", spans(e.Offsets), c.Offsets)
		e = encode(t, tok, c.Text, tokenizer.Options{OffsetUnit: tokenizer.Bytes})
		same(t, c.Text, "byte offsets", spans(e.Offsets), c.ByteOffsets)
		e = encode(t, tok, c.Text, tokenizer.Options{AddSpecial: true})
		same(t, c.Text, "ids with special tokens", e.IDs, c.IDsSpecial)
		var mask []int
		for _, s := range e.Sequences {
			mask = append(mask, map[bool]int{true: 1}[s == tokenizer.InTemplate])
		}
		same(t, c.Text, "special tokens mask", mask, c.Mask)
		same(t, c.Text, "decoded", tok.Decode(c.IDs, false), c.Decoded)
		same(t, c.Text, "decoded without special tokens", tok.Decode(c.IDs, true), c.DecodedSkip)
		ids, err := tok.AppendIDs(nil, c.Text, tokenizer.Options{AddSpecial: true})
		if err != nil {
			t.Errorf("%q: AppendIDs: %v", c.Text, err)
		}
		same(t, c.Text, "appended ids", ids, c.IDsSpecial)
	}
	for _, c := range data.Pairs {
		e, err := tok.EncodePair(c.A, c.B, tokenizer.Options{AddSpecial: true})
		if err != nil {
			t.Errorf("%q, %q: %v", c.A, c.B, err)
		}
		name := c.A + " | " + c.B
		same(t, name, "ids", e.IDs, c.IDs)
		same(t, name, "type ids", e.TypeIDs, c.TypeIDs)
		same(t, name, "offsets", spans(e.Offsets), c.Offsets)
		var sequences []int8
		for _, s := range c.SequenceIDs {
			if s == nil {
				s = new(int8)
				*s = tokenizer.InTemplate
			}
			sequences = append(sequences, *s)
		}
		same(t, name, "sequences", e.Sequences, sequences)
	}
	for _, c := range data.Truncation {
		e := encode(t, tok, c.Text, tokenizer.Options{AddSpecial: true, MaxLength: c.MaxLength})
		same(t, c.Text, "truncated ids", e.IDs, c.IDs)
	}
}

func encode(t testing.TB, tok *tokenizer.Tokenizer, text string, o tokenizer.Options) tokenizer.Encoding {
	t.Helper()
	e, err := tok.Encode(text, o)
	if err != nil {
		t.Errorf("%q: %v", text, err)
	}
	return e
}

func tokens(tok *tokenizer.Tokenizer, ids []int32) []string {
	list := []string{}
	for _, id := range ids {
		list = append(list, tok.Token(id))
	}
	return list
}

func spans(offsets []tokenizer.Offset) []span {
	list := []span{}
	for _, o := range offsets {
		list = append(list, span{o.Start, o.End})
	}
	return list
}

// same reports a difference; an empty slice equals a nil one.
func same(t *testing.T, name, what string, got, want any) {
	t.Helper()
	empty := func(v any) bool {
		r := reflect.ValueOf(v)
		return r.Kind() == reflect.Slice && r.Len() == 0
	}
	if !reflect.DeepEqual(got, want) && !(empty(got) && empty(want)) {
		t.Errorf("%.80q: %s:\n got %v\nwant %v", name, what, got, want)
	}
}
