package hf

// This file owns the component "added_tokens".

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/bertc/bertc/tokenizer"
)

// An addedToken is one entry of added_tokens.
type addedToken struct {
	ID         *int64  `json:"id"`
	Content    *string `json:"content"`
	SingleWord *bool   `json:"single_word"`
	LStrip     *bool   `json:"lstrip"`
	RStrip     *bool   `json:"rstrip"`
	Normalized *bool   `json:"normalized"`
	Special    *bool   `json:"special"`
}

// flags lists the flags of an added token with what they do to an image.
func (a *addedToken) flags() []addedFlag {
	return []addedFlag{
		{name: "single_word", value: a.SingleWord},
		{name: "normalized", value: a.Normalized},
		{name: "special", value: a.Special, supported: true},
		{name: "lstrip", value: a.LStrip, supported: true, bit: tokenizer.AddedLStrip},
		{name: "rstrip", value: a.RStrip, supported: true, bit: tokenizer.AddedRStrip},
	}
}

type addedFlag struct {
	name      string
	value     *bool
	supported bool // it may be true
	bit       uint32
}

func (b *builder) readAddedTokens(data json.RawMessage) error {
	var list []addedToken
	if !isNull(data) {
		if err := unmarshal(data, &list); err != nil {
			return err
		}
	}
	listed := map[int32]bool{}
	var special []int32
	var rstrip, spaceFirst bool
	for i, a := range list {
		if a.Content == nil || *a.Content == "" || a.ID == nil {
			return fmt.Errorf("entry %d has no content or no id", i)
		}
		// A token that the vocabulary lacks gets the next id, whatever the
		// file says, so the file must say just that.
		id, ok := b.ids[*a.Content]
		if !ok {
			id = int32(len(b.texts))
			b.ids[*a.Content] = id
			b.texts = append(b.texts, *a.Content)
		}
		if listed[id] {
			return fmt.Errorf("%q is listed twice", *a.Content)
		}
		listed[id] = true
		if *a.ID != int64(id) {
			return fmt.Errorf("%q has the id %d where its place in the vocabulary gives %d", *a.Content, *a.ID, id)
		}
		added := tokenizer.Added{ID: id}
		for _, flag := range a.flags() {
			switch {
			case flag.value == nil:
				return fmt.Errorf("%q has no field %q", *a.Content, flag.name)
			case !*flag.value:
			case !flag.supported:
				return fmt.Errorf("%q: %q: true is not supported", *a.Content, flag.name)
			default:
				added.Flags |= flag.bit
			}
		}
		if *a.Special {
			special = append(special, id)
		}
		b.image.Added = append(b.image.Added, added)
		first, _ := utf8.DecodeRuneInString(*a.Content)
		spaceFirst = spaceFirst || unicode.IsSpace(first)
		rstrip = rstrip || *a.RStrip
	}
	if len(b.texts) > maxVocab {
		return fmt.Errorf("there are more than the %d tokens that are supported", maxVocab)
	}
	if rstrip && spaceFirst {
		// The white space could belong to either token.
		return errors.New(`"rstrip": true beside a token that starts with white space is not supported`)
	}
	slices.SortFunc(b.image.Added, func(x, y tokenizer.Added) int {
		return slices.Compare([]byte(b.texts[x.ID]), []byte(b.texts[y.ID]))
	})
	b.image.Special = make([]uint32, (len(b.texts)+31)/32)
	for _, id := range special {
		b.image.Special[id/32] |= 1 << (id % 32)
	}
	return nil
}
