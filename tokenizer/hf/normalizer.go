package hf

// This file owns the components "normalizer" and "pre_tokenizer", which
// together say what happens to a stretch of text before it is segmented.

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bertc/bertc/tokenizer"
)

const (
	metaspace = "▁"
	// textStart matches the empty string at the start of the text and nowhere
	// else: "^" matches after every newline too, which the look-behind undoes.
	textStart = `(?<!\n)^`
	// textStartOrSpace is the same with the space, in one of LLM-jp's scripts.
	// It does not match a space at the start, so another Replace must.
	textStartOrSpace = textStart + `| `
	// maxNesting bounds how deep a Sequence may lie in another.
	maxNesting = 8
)

// A pattern is what a Replace looks for: a string or a regular expression.
type pattern struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

// text returns what p says, and whether it says it as a regular expression.
func (p pattern) text() (text string, regex bool, err error) {
	if (p.String == nil) == (p.Regex == nil) {
		return "", false, errors.New("Replace: pattern is neither a String nor a Regex")
	}
	if p.Regex != nil {
		return *p.Regex, true, nil
	}
	return *p.String, false, nil
}

// replace is a Replace of a normalizer or a decoder.
type replace struct {
	Pattern pattern `json:"pattern"`
	Content *string `json:"content"`
}

func readReplace(data json.RawMessage) (text string, regex bool, content string, err error) {
	var r replace
	if err := unmarshal(data, &r); err != nil {
		return "", false, "", err
	}
	if r.Content == nil {
		return "", false, "", errors.New("Replace: content is missing")
	}
	text, regex, err = r.Pattern.text()
	return text, regex, *r.Content, err
}

func (b *builder) readNormalizer(data json.RawMessage) error {
	if isNull(data) {
		return nil
	}
	if err := b.normalizer(data, 0); err != nil {
		return err
	}
	if b.startOrSpace && b.image.MapSpaces == 0 {
		return fmt.Errorf("Replace: pattern %q without a Replace of %q is not supported", textStartOrSpace, " ")
	}
	return nil
}

func (b *builder) normalizer(data json.RawMessage, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("a Sequence more than %d deep is not supported", maxNesting)
	}
	read, err := typeOf(data, map[string]func(json.RawMessage, int) error{
		"Sequence": b.normalizerSequence,
		"Replace":  b.normalizerReplace,
		"Prepend":  b.normalizerPrepend,
	}, "Sequence, Replace, Prepend")
	if err != nil {
		return err
	}
	return read(data, depth)
}

func (b *builder) normalizerSequence(data json.RawMessage, depth int) error {
	var s struct {
		Normalizers []json.RawMessage `json:"normalizers"`
	}
	if err := unmarshal(data, &s); err != nil {
		return err
	}
	for _, n := range s.Normalizers {
		if err := b.normalizer(n, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) normalizerReplace(data json.RawMessage, _ int) error {
	text, regex, content, err := readReplace(data)
	if err != nil {
		return err
	}
	if content != metaspace {
		return fmt.Errorf("Replace: content %q is not supported (supported: %q)", content, metaspace)
	}
	switch {
	case text == " ":
		b.image.MapSpaces = 1
		return nil
	case regex && text == textStart:
		return b.setPrefix(tokenizer.PrefixInsert)
	case regex && text == textStartOrSpace:
		b.startOrSpace = true
		return b.setPrefix(tokenizer.PrefixInsert)
	}
	return fmt.Errorf("Replace: pattern %q is not supported (supported: %q and %q as a Regex, %q)",
		text, textStart, textStartOrSpace, " ")
}

func (b *builder) normalizerPrepend(data json.RawMessage, _ int) error {
	var p struct {
		Prepend string `json:"prepend"`
	}
	if err := unmarshal(data, &p); err != nil {
		return err
	}
	if p.Prepend != metaspace {
		return fmt.Errorf("Prepend: %q is not supported (supported: %q)", p.Prepend, metaspace)
	}
	return b.setPrefix(tokenizer.PrefixPrepend)
}

func (b *builder) setPrefix(p tokenizer.Prefix) error {
	if b.image.Prefix != tokenizer.PrefixNone {
		return errors.New("more than one prefix is not supported")
	}
	b.image.Prefix = p
	return nil
}

// prefixSchemes has the prefix of each prepend_scheme of a Metaspace.
var prefixSchemes = map[string]tokenizer.Prefix{
	"always": tokenizer.PrefixPrependMissing,
	"never":  tokenizer.PrefixNone,
}

// metaspaceSettings is a Metaspace as a pre-tokenizer or a decoder.
type metaspaceSettings struct {
	Replacement    string  `json:"replacement"`
	AddPrefixSpace *bool   `json:"add_prefix_space"`
	PrependScheme  *string `json:"prepend_scheme"`
	Split          *bool   `json:"split"`
}

// scheme returns the prepend_scheme in effect.
func (m *metaspaceSettings) scheme() (string, error) {
	scheme := "always"
	if m.PrependScheme != nil {
		scheme = *m.PrependScheme
	}
	if m.AddPrefixSpace != nil && !*m.AddPrefixSpace {
		if scheme != "never" {
			return "", fmt.Errorf("Metaspace: add_prefix_space false contradicts prepend_scheme %q", scheme)
		}
	}
	return scheme, nil
}

func (b *builder) readPreTokenizer(data json.RawMessage) error {
	if isNull(data) {
		return nil
	}
	if _, err := typeOf(data, map[string]bool{"Metaspace": true}, "null, Metaspace"); err != nil {
		return err
	}
	var m metaspaceSettings
	if err := unmarshal(data, &m); err != nil {
		return err
	}
	scheme, err := m.scheme()
	if err != nil {
		return err
	}
	prefix, ok := prefixSchemes[scheme]
	switch {
	case !ok:
		return fmt.Errorf("Metaspace: prepend_scheme %q is not supported (supported: always, never)", scheme)
	case m.Replacement != metaspace:
		return fmt.Errorf("Metaspace: replacement %q is not supported (supported: %q)", m.Replacement, metaspace)
	case m.Split == nil || *m.Split:
		return errors.New("Metaspace: split true is not supported (supported: false)")
	case b.image.MapSpaces == 1 || b.image.Prefix != tokenizer.PrefixNone:
		return errors.New("Metaspace after a normalizer is not supported")
	}
	b.image.MapSpaces = 1
	b.image.Prefix = prefix
	return nil
}
