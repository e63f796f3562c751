package hf

// This file owns the component "post_processor".

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/bertc/bertc/tokenizer"
)

// templatePiece is one item of a template: exactly one field is set.
type templatePiece struct {
	Sequence     *templateRef
	SpecialToken *templateRef
}

type templateRef struct {
	ID     string `json:"id"`
	TypeID int64  `json:"type_id"`
}

// specialToken is what one special token of a template stands for.
type specialToken struct {
	IDs []int64 `json:"ids"`
}

// sequences has the kind of item for each sequence.
var sequences = map[string]tokenizer.ItemKind{"A": tokenizer.ItemA, "B": tokenizer.ItemB}

func (b *builder) readPostProcessor(data json.RawMessage) error {
	if isNull(data) {
		b.image.Single = []tokenizer.Item{{Kind: tokenizer.ItemA}}
		b.image.Pair = []tokenizer.Item{{Kind: tokenizer.ItemA}, {Kind: tokenizer.ItemB, TypeID: 1}}
		return nil
	}
	if _, err := typeOf(data, map[string]bool{"TemplateProcessing": true}, "null, TemplateProcessing"); err != nil {
		return err
	}
	var p struct {
		Single        []templatePiece         `json:"single"`
		Pair          []templatePiece         `json:"pair"`
		SpecialTokens map[string]specialToken `json:"special_tokens"`
	}
	if err := unmarshal(data, &p); err != nil {
		return err
	}
	for _, t := range []struct {
		name   string
		pieces []templatePiece
		items  *[]tokenizer.Item
	}{
		{"single", p.Single, &b.image.Single},
		{"pair", p.Pair, &b.image.Pair},
	} {
		items, err := b.template(t.pieces, p.SpecialTokens)
		if err != nil {
			return fmt.Errorf("TemplateProcessing: %s: %w", t.name, err)
		}
		*t.items = items
	}
	if slices.ContainsFunc(b.image.Single, func(i tokenizer.Item) bool { return i.Kind == tokenizer.ItemB }) {
		return errors.New("TemplateProcessing: single: it has a second text")
	}
	return nil
}

// template resolves the pieces of a template.
func (b *builder) template(pieces []templatePiece, special map[string]specialToken) ([]tokenizer.Item, error) {
	var items []tokenizer.Item
	for _, piece := range pieces {
		if (piece.Sequence == nil) == (piece.SpecialToken == nil) {
			return nil, errors.New("an item is neither a Sequence nor a SpecialToken")
		}
		if ref := piece.Sequence; ref != nil {
			kind, ok := sequences[ref.ID]
			if !ok {
				return nil, fmt.Errorf("the Sequence %q is not supported (supported: A, B)", ref.ID)
			}
			items = append(items, tokenizer.Item{Kind: kind, TypeID: int32(ref.TypeID)})
		}
		if ref := piece.SpecialToken; ref != nil {
			token, ok := special[ref.ID]
			if !ok {
				return nil, fmt.Errorf("the SpecialToken %q is not among special_tokens", ref.ID)
			}
			for _, id := range token.IDs {
				if id < 0 || id >= int64(len(b.texts)) {
					return nil, fmt.Errorf("the SpecialToken %q has the id %d, which no token has", ref.ID, id)
				}
				items = append(items, tokenizer.Item{TypeID: int32(ref.TypeID), ID: int32(id)})
			}
		}
		if id := piece.typeID(); id < 0 || id > math.MaxInt32 {
			return nil, fmt.Errorf("the type_id %d is out of range", id)
		}
	}
	return items, nil
}

func (p templatePiece) typeID() int64 {
	if p.Sequence != nil {
		return p.Sequence.TypeID
	}
	return p.SpecialToken.TypeID
}
