package tokenizer_test

// This file measures. Bytes per second are bytes of UTF-8; every benchmark
// also reports characters per second.

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bertc/bertc/tokenizer"
	"github.com/bertc/bertc/tokenizer/hf"
)

// benchmarkText returns the texts of the conformance data without special
// tokens, repeated to about 100,000 characters.
func benchmarkText(b *testing.B, dir string) string {
	var all strings.Builder
	for _, c := range readConformance(b, dir).Cases {
		if !strings.Contains(c.Text, "<") {
			all.WriteString(c.Text)
		}
	}
	return strings.Repeat(all.String(), 1+100_000/utf8.RuneCountInString(all.String()))
}

func benchmarkEncode(b *testing.B, dir string, encode func(tok *tokenizer.Tokenizer, text string) error) {
	tok, text := open(b, dir), benchmarkText(b, dir)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := encode(tok, text); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(utf8.RuneCountInString(text))*float64(b.N)/b.Elapsed().Seconds(), "chars/s")
}

func BenchmarkAppendIDsTiny(b *testing.B)     { benchmarkIDs(b, tinyDir) }
func BenchmarkAppendIDsLarge(b *testing.B)    { benchmarkIDs(b, largeDir(b)) }
func BenchmarkAppendEncodeTiny(b *testing.B)  { benchmarkOffsets(b, tinyDir) }
func BenchmarkAppendEncodeLarge(b *testing.B) { benchmarkOffsets(b, largeDir(b)) }

func benchmarkIDs(b *testing.B, dir string) {
	var ids []int32
	benchmarkEncode(b, dir, func(tok *tokenizer.Tokenizer, text string) (err error) {
		ids, err = tok.AppendIDs(ids[:0], text, tokenizer.Options{})
		return err
	})
}

func benchmarkOffsets(b *testing.B, dir string) {
	var e tokenizer.Encoding
	benchmarkEncode(b, dir, func(tok *tokenizer.Tokenizer, text string) error {
		e.Reset()
		return tok.AppendEncode(&e, text, tokenizer.Options{OffsetUnit: tokenizer.Bytes})
	})
}

// BenchmarkTruncated encodes the start of a long text.
func BenchmarkTruncated(b *testing.B) {
	var ids []int32
	benchmarkEncode(b, tinyDir, func(tok *tokenizer.Tokenizer, text string) (err error) {
		ids, err = tok.AppendIDs(ids[:0], text, tokenizer.Options{MaxLength: 512})
		return err
	})
}

// BenchmarkSentence encodes one short text.
func BenchmarkSentence(b *testing.B) {
	tok := open(b, tinyDir)
	var e tokenizer.Encoding
	for b.Loop() {
		e.Reset()
		if err := tok.AppendEncode(&e, "私は学校<MASK|LLM-jp>行きます。", tokenizer.Options{AddSpecial: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	tok, text := open(b, tinyDir), benchmarkText(b, tinyDir)
	e := encode(b, tok, text, tokenizer.Options{})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Decode(e.IDs, false)
	}
}

func BenchmarkOpenLarge(b *testing.B) {
	image, err := hf.Load(filepath.Join(largeDir(b), "tokenizer.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(image)), "image-bytes")
	for b.Loop() {
		if _, err := tokenizer.Open(image); err != nil {
			b.Fatal(err)
		}
	}
}
