package tokenizer_test

// This file checks behaviour by hand-written expectations: the surprises of
// the LLM-jp family, invalid input, look-ups, memory and concurrency.

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bertc/bertc/tokenizer"
)

// TestSurprises has the behaviour of the LLM-jp family that one might not
// expect. Tokens stand with spaces between them.
func TestSurprises(t *testing.T) {
	tok := open(t, tinyDir)
	const mask = "<MASK|LLM-jp>"
	for _, c := range []struct{ name, text, tokens string }{
		{"a stretch after a special token gets its own prefix",
			"私は学校" + mask + "行きます。", "▁ 私 は 学校 " + mask + " ▁ 行き ます 。"},
		{"a space at the start joins the prefix", " ", "▁▁"},
		{"empty text", "", ""},
		{"nothing between two special tokens", mask + mask, mask + " " + mask},
		{"a newline at the start stays behind the prefix", "\n私", "▁ \n 私"},
		{"no prefix after a newline", "私\n私", "▁ 私 \n 私"},
		{"spaces beside a mask stay", "は " + mask + " 。", "▁ は ▁ " + mask + " ▁▁ 。"},
		{"control tokens in ordinary text", "<s></s><unk>", "<s> </s> <unk>"},
		{"the mask is case-sensitive", "<mask|llm-jp>", "▁ < m a s k | l l m - j p >"},
		{"a special token ends at its first match", mask + ">", mask + " ▁ >"},
		{"of equal ways the one found first wins", strings.Repeat(" ", 24), "▁ " + strings.Repeat("▁", 24)},
		{"full width stays", "！!", "▁ ！ !"},
		{"byte fallback", "𠮷", "▁ <0xF0> <0xA0> <0xAE> <0xB7>"},
		{"bytes are fused, not replaced", "𠮷😀", "▁ <0xF0> <0xA0> <0xAE> <0xB7> <0xF0> <0x9F> <0x98> <0x80>"},
		{"a byte token's name is ordinary text", "<0x41>", "▁ < 0 x 4 1 >"},
	} {
		e := encode(t, tok, c.text, tokenizer.Options{})
		if got := strings.Join(tokens(tok, e.IDs), " "); got != c.tokens {
			t.Errorf("%s: %q:\n got %q\nwant %q", c.name, c.text, got, c.tokens)
		}
	}
}

func TestSurprisingOffsets(t *testing.T) {
	tok := open(t, tinyDir)
	for _, c := range []struct {
		name, text string
		unit       tokenizer.OffsetUnit
		want       []span
	}{
		{"the prefix is empty", "私", tokenizer.CodePoints, []span{{0, 0}, {0, 1}}},
		{"and lies where its stretch starts", "私<s>私", tokenizer.CodePoints, []span{{0, 0}, {0, 1}, {1, 4}, {4, 4}, {4, 5}}},
		{"bytes have the place of their run", "a𠮷b", tokenizer.CodePoints,
			[]span{{0, 0}, {0, 1}, {1, 2}, {1, 2}, {1, 2}, {1, 2}, {2, 3}}},
		{"in UTF-8", "a𠮷b", tokenizer.Bytes, []span{{0, 0}, {0, 1}, {1, 5}, {1, 5}, {1, 5}, {1, 5}, {5, 6}}},
		{"in UTF-16", "a𠮷b", tokenizer.UTF16, []span{{0, 0}, {0, 1}, {1, 3}, {1, 3}, {1, 3}, {1, 3}, {3, 4}}},
	} {
		e := encode(t, tok, c.text, tokenizer.Options{OffsetUnit: c.unit})
		same(t, c.text, c.name, spans(e.Offsets), c.want)
	}
}

func TestInvalidUTF8(t *testing.T) {
	tok := open(t, tinyDir)
	for _, c := range []struct {
		text   string
		offset int
	}{
		{"\xff", 0},
		{"私\x80", 3},
		{"私は\xe3\x81", 6},
		{"a\xed\xa0\x80", 1},                    // a surrogate
		{"a\xe0\x80\x80", 1},                    // too long a form
		{"\xf4\x90\x80\x80", 0},                 // beyond U+10FFFF
		{"私<s>は\xe3<s>", 9},                     // cut off by a special token
		{"<s>\xc0", 3},                          // behind one
		{strings.Repeat("私", 99) + "\xc1", 297}, // behind where truncation stops
	} {
		for _, o := range []tokenizer.Options{{}, {MaxLength: 4}} {
			var e tokenizer.Encoding
			err := tok.AppendEncode(&e, c.text, o)
			var invalid *tokenizer.InvalidUTF8Error
			if !errors.As(err, &invalid) || invalid.Offset != c.offset {
				t.Errorf("%q: error %v, want byte %d", c.text, err, c.offset)
			}
			if e.Len() != 0 {
				t.Errorf("%q: %d tokens beside an error", c.text, e.Len())
			}
		}
	}
	_, err := tok.EncodePair("a", "b\xff", tokenizer.Options{})
	if err == nil || err.Error() != "second text: the text is not valid UTF-8 at byte 1" {
		t.Errorf("pair: error %v", err)
	}
}

func TestTruncationErrors(t *testing.T) {
	tok := open(t, tinyDir)
	for _, c := range []struct {
		first, second string
		options       tokenizer.Options
		want          error
	}{
		{"私は", "", tokenizer.Options{MaxLength: -1}, tokenizer.ErrMaxLength},
		{"私は", "", tokenizer.Options{MaxLength: 2, AddSpecial: true}, tokenizer.ErrMaxLength},
		{"私は", "私は", tokenizer.Options{MaxLength: 3, Strategy: tokenizer.OnlyFirst}, tokenizer.ErrTooShort},
		{"私は", "私は", tokenizer.Options{MaxLength: 4, Strategy: tokenizer.OnlyFirst}, nil},
		{"私は", "私は", tokenizer.Options{MaxLength: 3, Strategy: tokenizer.OnlySecond}, tokenizer.ErrTooShort},
	} {
		_, err := tok.EncodePair(c.first, c.second, c.options)
		if !errors.Is(err, c.want) {
			t.Errorf("%+v: error %v, want %v", c.options, err, c.want)
		}
	}
	if _, err := tok.Encode("私は", tokenizer.Options{MaxLength: 2, Strategy: tokenizer.OnlySecond}); !errors.Is(err, tokenizer.ErrNoSecond) {
		t.Errorf("error %v, want %v", err, tokenizer.ErrNoSecond)
	}
}

// TestEarlyStop checks that truncation, which stops reading early, gives the
// start of the whole encoding.
func TestEarlyStop(t *testing.T) {
	tok := open(t, tinyDir)
	text := strings.Repeat("私は学校に行く。𠮷😀𠮷<s>The cat    is", 3)
	whole := encode(t, tok, text, tokenizer.Options{})
	for n := 1; n <= whole.Len()+1; n++ {
		e := encode(t, tok, text, tokenizer.Options{MaxLength: n})
		same(t, text, fmt.Sprintf("first %d ids", n), e.IDs, whole.IDs[:min(n, whole.Len())])
		same(t, text, fmt.Sprintf("first %d offsets", n), e.Offsets, whole.Offsets[:min(n, whole.Len())])
	}
}

func TestLookUps(t *testing.T) {
	tok := open(t, tinyDir)
	for id := range int32(tok.VocabSize()) {
		if got, ok := tok.ID(tok.Token(id)); !ok || got != id {
			t.Errorf("ID(%q) = %d, %v, want %d", tok.Token(id), got, ok, id)
		}
	}
	for _, text := range []string{"", "nothing of the kind", "<MASK|LLM-jp", "<MASK|LLM-jp>>", "\xff", "𠮷"} {
		if id, ok := tok.ID(text); ok {
			t.Errorf("ID(%q) = %d", text, id)
		}
	}
	for _, id := range []int32{-1, int32(tok.VocabSize()), 1 << 30} {
		if got := tok.Token(id); got != "" {
			t.Errorf("Token(%d) = %q", id, got)
		}
	}
	for _, c := range []struct {
		name string
		role func() (int32, bool)
		want string
	}{
		{"MaskID", tok.MaskID, "<MASK|LLM-jp>"},
		{"CLSID", tok.CLSID, "<CLS|LLM-jp>"},
		{"SEPID", tok.SEPID, "<SEP|LLM-jp>"},
		{"PADID", tok.PADID, "<PAD|LLM-jp>"},
		{"UNKID", tok.UNKID, "<unk>"},
	} {
		if id, ok := c.role(); !ok || tok.Token(id) != c.want {
			t.Errorf("%s() = %d, %v, want the id of %s", c.name, id, ok, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	tok := open(t, tinyDir)
	e := encode(t, tok, "私は<MASK|LLM-jp>です。", tokenizer.Options{AddSpecial: true})
	ids := append([]int32{-5, 1 << 30}, e.IDs...)
	if got, want := tok.Decode(ids, false), "<CLS|LLM-jp> 私は<MASK|LLM-jp> です。<SEP|LLM-jp>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := tok.Decode(ids, true), "私は です。"; got != want {
		t.Errorf("without special tokens: got %q, want %q", got, want)
	}
}

// TestAppend checks that what a result holds already stays.
func TestAppend(t *testing.T) {
	tok := open(t, tinyDir)
	o := tokenizer.Options{AddSpecial: true}
	one, two := encode(t, tok, "私は", o), encode(t, tok, "学校", o)
	var e tokenizer.Encoding
	for _, text := range []string{"私は", "学校"} {
		if err := tok.AppendEncode(&e, text, o); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "two texts", "ids", e.IDs, append(one.IDs, two.IDs...))
	same(t, "two texts", "type ids", e.TypeIDs, append(one.TypeIDs, two.TypeIDs...))
	same(t, "two texts", "sequences", e.Sequences, append(one.Sequences, two.Sequences...))
	same(t, "two texts", "offsets", e.Offsets, append(one.Offsets, two.Offsets...))
	e.Reset()
	if e.Len() != 0 {
		t.Errorf("%d tokens after Reset", e.Len())
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled memory at random")
	}
	tok := open(t, tinyDir)
	text := "私は学校<MASK|LLM-jp>行きます。The cat is 𠮷😀 " + strings.Repeat(" ", 99)
	var e tokenizer.Encoding
	var ids []int32
	for name, f := range map[string]func(){
		"AppendEncode": func() {
			e.Reset()
			if err := tok.AppendEncode(&e, text, tokenizer.Options{AddSpecial: true, OffsetUnit: tokenizer.Bytes}); err != nil {
				t.Error(err)
			}
		},
		"AppendEncodePair": func() {
			e.Reset()
			if err := tok.AppendEncodePair(&e, text, text, tokenizer.Options{AddSpecial: true, MaxLength: 40}); err != nil {
				t.Error(err)
			}
		},
		"AppendEncode on the left": func() {
			e.Reset()
			if err := tok.AppendEncode(&e, text, tokenizer.Options{MaxLength: 5, Side: tokenizer.Left}); err != nil {
				t.Error(err)
			}
		},
		"AppendIDs": func() {
			var err error
			if ids, err = tok.AppendIDs(ids[:0], text, tokenizer.Options{AddSpecial: true}); err != nil {
				t.Error(err)
			}
		},
	} {
		f()
		if n := testing.AllocsPerRun(100, f); n >= 1 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := open(t, tinyDir)
	data := readConformance(t, tinyDir)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, c := range data.Cases {
				e, err := tok.Encode(c.Text, tokenizer.Options{})
				if err != nil {
					t.Error(err)
				}
				same(t, c.Text, "ids", e.IDs, c.IDs)
				same(t, c.Text, "decoded", tok.Decode(c.IDs, false), c.Decoded)
			}
		})
	}
	wg.Wait()
}

// TestLongRuns checks stretches that no place divides.
func TestLongRuns(t *testing.T) {
	tok := open(t, tinyDir)
	const n = 200_000
	for _, c := range []struct {
		unit   string
		tokens int
	}{
		{" ", n/24 + 1},
		{"𠮷", 4*n + 1},
		{"<", n + 1},
		{"<MASK|LLM-jp>", n},
	} {
		e := encode(t, tok, strings.Repeat(c.unit, n), tokenizer.Options{})
		if e.Len() != c.tokens {
			t.Errorf("%d times %q: %d tokens, want %d", n, c.unit, e.Len(), c.tokens)
		}
	}
}
