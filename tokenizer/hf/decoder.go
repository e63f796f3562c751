package hf

// This file owns the component "decoder".

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/bertc/bertc/tokenizer"
)

// isLiteral reports whether regex is one character that means itself; all
// characters that mean something else are ASCII.
func isLiteral(regex string) bool {
	r, size := utf8.DecodeRuneInString(regex)
	return size == len(regex) && size > 0 && (r == ' ' || r >= utf8.RuneSelf)
}

func (b *builder) readDecoder(data json.RawMessage) error {
	if isNull(data) {
		return nil
	}
	b.image.HasDecoder = 1
	return b.decoder(data, 0)
}

func (b *builder) decoder(data json.RawMessage, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("a Sequence more than %d deep is not supported", maxNesting)
	}
	read, err := typeOf(data, map[string]func(json.RawMessage, int) error{
		"Sequence":     b.decoderSequence,
		"ByteFallback": b.decoderPlain(tokenizer.OpByteFallback),
		"Fuse":         b.decoderPlain(tokenizer.OpFuse),
		"Replace":      b.decoderReplace,
		"Strip":        b.decoderStrip,
		"Metaspace":    b.decoderMetaspace,
	}, "Sequence, ByteFallback, Fuse, Replace, Strip, Metaspace")
	if err != nil {
		return err
	}
	return read(data, depth)
}

func (b *builder) decoderSequence(data json.RawMessage, depth int) error {
	var s struct {
		Decoders []json.RawMessage `json:"decoders"`
	}
	if err := unmarshal(data, &s); err != nil {
		return err
	}
	for _, d := range s.Decoders {
		if err := b.decoder(d, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) decoderPlain(op tokenizer.Op) func(json.RawMessage, int) error {
	return func(json.RawMessage, int) error {
		b.addStep(tokenizer.Step{Op: op}, "", "")
		return nil
	}
}

func (b *builder) decoderReplace(data json.RawMessage, _ int) error {
	text, regex, content, err := readReplace(data)
	if err != nil {
		return err
	}
	switch {
	case text != "" && (!regex || isLiteral(text)):
		b.addStep(tokenizer.Step{Op: tokenizer.OpReplace}, text, content)
		return nil
	case regex && text == textStart+" ":
		b.addStep(tokenizer.Step{Op: tokenizer.OpReplaceStart}, " ", content)
		return nil
	}
	return fmt.Errorf("Replace: pattern %q is not supported (supported: a String, a Regex of one space or one non-ASCII character, %q)",
		text, textStart+" ")
}

func (b *builder) decoderStrip(data json.RawMessage, _ int) error {
	var s struct {
		Content string  `json:"content"`
		Start   *uint32 `json:"start"`
		Stop    *uint32 `json:"stop"`
	}
	if err := unmarshal(data, &s); err != nil {
		return err
	}
	if utf8.RuneCountInString(s.Content) != 1 || s.Start == nil || s.Stop == nil {
		return errors.New("Strip: content is not one character, or start or stop is missing")
	}
	b.addStep(tokenizer.Step{Op: tokenizer.OpStrip, Start: *s.Start, Stop: *s.Stop}, s.Content, "")
	return nil
}

func (b *builder) decoderMetaspace(data json.RawMessage, _ int) error {
	var m metaspaceSettings
	if err := unmarshal(data, &m); err != nil {
		return err
	}
	scheme, err := m.scheme()
	if err != nil {
		return err
	}
	if utf8.RuneCountInString(m.Replacement) != 1 {
		return fmt.Errorf("Metaspace: replacement %q is not one character", m.Replacement)
	}
	first := ""
	if scheme == "never" {
		first = " "
	}
	b.addStep(tokenizer.Step{Op: tokenizer.OpMetaspace}, m.Replacement, first)
	return nil
}

// addStep adds a step to the decoder with its two strings.
func (b *builder) addStep(s tokenizer.Step, from, to string) {
	s.From, s.To = b.span(from), b.span(to)
	b.image.Steps = append(b.image.Steps, s)
}

// span puts text into the strings of the decoder.
func (b *builder) span(text string) tokenizer.Span {
	start := uint32(len(b.image.StepText))
	b.image.StepText = append(b.image.StepText, text...)
	return tokenizer.Span{Start: start, End: uint32(len(b.image.StepText))}
}
