package tokenizer_test

// This file fuzzes what a generated package reads: the image and the texts.

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bertc/bertc/tokenizer"
	"github.com/bertc/bertc/tokenizer/hf"
)

// variantImages returns the images of the variants' tokenizers.
func variantImages(t testing.TB) [][]byte {
	t.Helper()
	data, err := os.ReadFile("testdata/variants.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Variants []struct{ Tokenizer json.RawMessage }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var images [][]byte
	for _, v := range file.Variants {
		image, err := hf.Parse(v.Tokenizer, nil)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, image)
	}
	return images
}

// exercise calls everything that reads an image.
func exercise(tok *tokenizer.Tokenizer, text string) {
	var ids []int32
	for _, o := range []tokenizer.Options{
		{AddSpecial: true, OffsetUnit: tokenizer.UTF16},
		{MaxLength: 3},
		{MaxLength: 2, Side: tokenizer.Left, OffsetUnit: tokenizer.Bytes},
	} {
		if e, err := tok.Encode(text, o); err == nil {
			ids = append(ids, e.IDs...)
		}
		if e, err := tok.EncodePair(text, "a b", o); err == nil {
			ids = append(ids, e.IDs...)
		}
	}
	tok.Decode(ids, true)
	tok.Decode(ids, false)
	for _, id := range append(ids, -1, int32(tok.VocabSize())) {
		tok.ID(tok.Token(id))
	}
	tok.ID(text)
	tok.MaskID()
}

// aligned returns a copy of data whose address suits Open.
func aligned(data []byte) []byte {
	return append(make([]byte, 0, len(data)+8), data...)
}

// FuzzOpen changes images: it writes patch at an offset and cuts the end.
// Whole images as fuzz inputs would be too large to be changed to any effect.
func FuzzOpen(f *testing.F) {
	images := variantImages(f)
	for i, image := range images {
		f.Add(uint8(i), uint32(0), []byte{}, uint32(len(image)), "私は<mask> ab𠮷")
		f.Add(uint8(i), uint32(64), []byte{0xff, 0xff, 0xff, 0xff}, uint32(len(image)), " <s>学校")
		f.Add(uint8(i), uint32(len(image)/2), []byte{1, 2, 3, 4, 5, 6, 7, 8}, uint32(len(image)), "▁a")
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, patch []byte, size uint32, text string) {
		image := aligned(images[int(which)%len(images)])
		copy(image[int(at)%len(image):], patch)
		tok, err := tokenizer.Open(image[:min(int(size), len(image))])
		if err != nil {
			if !strings.HasPrefix(err.Error(), "tokenizer image: ") {
				t.Errorf("error %q", err)
			}
			return
		}
		exercise(tok, text)
	})
}

// FuzzEncode checks what holds for any text.
func FuzzEncode(f *testing.F) {
	f.Add("私は学校<MASK|LLM-jp>行きます。 𠮷😀")
	f.Add("\xe3\x81")
	f.Add(strings.Repeat(" ", 60) + "\n<unk")
	tok := open(f, tinyDir)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := tok.Encode(text, tokenizer.Options{OffsetUnit: tokenizer.Bytes})
		if (err == nil) != utf8.ValidString(text) {
			t.Fatalf("error %v", err)
		}
		if err != nil {
			return
		}
		// Offsets cover the text: each token starts where one before it ended.
		end := int32(0)
		for i, o := range e.Offsets {
			again := i > 0 && o == e.Offsets[i-1]
			if o.Start != end && !again || o.End < o.Start {
				t.Fatalf("token %d has the offset %v after %d", i, o, end)
			}
			end = o.End
		}
		if int(end) != len(text) {
			t.Fatalf("the tokens cover %d of %d bytes", end, len(text))
		}
		// Decoding restores a text that holds neither ▁ nor special tokens.
		if !strings.Contains(text, "▁") && !strings.Contains(text, "<") {
			if got := tok.Decode(e.IDs, false); got != text {
				t.Fatalf("decoded %q", got)
			}
		}
	})
}
