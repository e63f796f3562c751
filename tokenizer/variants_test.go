package tokenizer_test

// This file checks what Hugging Face tokenizers does with small tokenizers
// that use each supported form of each component; see testdata/variants.py.

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/bertc/bertc/tokenizer"
	"github.com/bertc/bertc/tokenizer/hf"
)

// expected is an encoding as the variants have it.
type expected struct {
	IDs       []int32
	TypeIDs   []int32 `json:"type_ids"`
	Offsets   []span
	Sequences []int8
}

func (want expected) check(t *testing.T, name string, got tokenizer.Encoding) {
	t.Helper()
	same(t, name, "ids", got.IDs, want.IDs)
	same(t, name, "type ids", got.TypeIDs, want.TypeIDs)
	same(t, name, "offsets", spans(got.Offsets), want.Offsets)
	same(t, name, "sequences", got.Sequences, want.Sequences)
}

var (
	strategies = map[string]tokenizer.Strategy{
		"longest_first": tokenizer.LongestFirst,
		"only_first":    tokenizer.OnlyFirst,
		"only_second":   tokenizer.OnlySecond,
	}
	sides = map[string]tokenizer.Side{"right": tokenizer.Right, "left": tokenizer.Left}
)

func TestVariants(t *testing.T) {
	data, err := os.ReadFile("testdata/variants.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Variants []struct {
			Name      string
			Tokenizer json.RawMessage
			Cases     []struct {
				Text string
				expected
				Plain []int32
			}
			Pairs []struct {
				A, B    string
				Special bool
				expected
			}
			Truncations []struct {
				A         string
				B         *string
				Special   bool
				MaxLength int `json:"max_length"`
				Strategy  string
				Direction string
				Error     string
				expected
			}
			Decodings []struct {
				IDs  []int32
				Skip bool
				Text string
			}
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Variants) == 0 {
		t.Fatal("there are no variants")
	}
	for _, v := range file.Variants {
		t.Run(v.Name, func(t *testing.T) {
			image, err := hf.Parse(v.Tokenizer, nil)
			if err != nil {
				t.Fatal(err)
			}
			tok, err := tokenizer.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range v.Cases {
				c.check(t, c.Text, encode(t, tok, c.Text, tokenizer.Options{AddSpecial: true}))
				same(t, c.Text, "plain ids", encode(t, tok, c.Text, tokenizer.Options{}).IDs, c.Plain)
				checkUnits(t, tok, c.Text)
			}
			for _, c := range v.Pairs {
				e, err := tok.EncodePair(c.A, c.B, tokenizer.Options{AddSpecial: c.Special})
				if err != nil {
					t.Error(err)
				}
				c.check(t, c.A+" | "+c.B, e)
			}
			for _, c := range v.Truncations {
				o := tokenizer.Options{
					AddSpecial: c.Special, MaxLength: c.MaxLength,
					Strategy: strategies[c.Strategy], Side: sides[c.Direction],
				}
				e, err := tok.Encode(c.A, o)
				name := fmt.Sprintf("%q %+v", c.A, o)
				if c.B != nil {
					e, err = tok.EncodePair(c.A, *c.B, o)
					name = fmt.Sprintf("%q | %q %+v", c.A, *c.B, o)
				}
				if (err != nil) != (c.Error != "") {
					t.Errorf("%s: error %v, want %q", name, err, c.Error)
				}
				c.check(t, name, e)
			}
			for _, c := range v.Decodings {
				same(t, fmt.Sprint(c.IDs), "decoded", tok.Decode(c.IDs, c.Skip), c.Text)
			}
		})
	}
}

// checkUnits checks that offsets in bytes and in UTF-16 are those in code
// points.
func checkUnits(t *testing.T, tok *tokenizer.Tokenizer, text string) {
	t.Helper()
	var bytes, utf16 []int32 // by code point
	b, u := int32(0), int32(0)
	for i, r := range text {
		b = int32(i)
		bytes, utf16 = append(bytes, b), append(utf16, u)
		u++
		if r > 0xffff {
			u++
		}
	}
	bytes, utf16 = append(bytes, int32(len(text))), append(utf16, u)
	points := encode(t, tok, text, tokenizer.Options{AddSpecial: true})
	for unit, table := range map[tokenizer.OffsetUnit][]int32{tokenizer.Bytes: bytes, tokenizer.UTF16: utf16} {
		got := encode(t, tok, text, tokenizer.Options{AddSpecial: true, OffsetUnit: unit})
		var want []span
		for _, o := range points.Offsets {
			want = append(want, span{table[o.Start], table[o.End]})
		}
		same(t, text, fmt.Sprintf("offsets in unit %d", unit), spans(got.Offsets), want)
	}
}
