package hf

// This file owns the roles of special tokens: which token is the mask, and so
// on. tokenizer.json does not say; the files beside it do, and without them
// the names of the tokens tell.

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bertc/bertc/tokenizer"
)

// roles has the field that names the token of each role, and the word that
// the token's name is made of.
var roles = [tokenizer.RoleCount]struct{ field, word string }{
	tokenizer.RoleMask: {"mask_token", "mask"},
	tokenizer.RoleCLS:  {"cls_token", "cls"},
	tokenizer.RoleSEP:  {"sep_token", "sep"},
	tokenizer.RolePAD:  {"pad_token", "pad"},
}

// nameForms are the forms of the name of a special token, in the order in
// which they are looked for. They hold for lower and upper case.
var nameForms = []string{"<%s|llm-jp>", "<%s>", "[%s]"}

func (b *builder) setRoles() error {
	for role := range b.image.Roles {
		b.image.Roles[role] = -1
	}
	for _, file := range b.roles {
		var config map[string]json.RawMessage
		if err := unmarshal(file.data, &config); err != nil {
			return fmt.Errorf("%s: %w", file.name, err)
		}
		for role, r := range roles {
			if isNull(config[r.field]) || b.image.Roles[role] >= 0 {
				continue
			}
			id, err := b.namedToken(config[r.field])
			if err != nil {
				return fmt.Errorf("%s: %s: %w", file.name, r.field, err)
			}
			b.image.Roles[role] = id
		}
	}
	for role, r := range roles {
		if b.image.Roles[role] < 0 {
			b.image.Roles[role] = b.tokenOfWord(r.word)
		}
	}
	return nil
}

// namedToken returns the id of the token that a field of a file names, as a
// string or as an object with a content. It must be an added token: in no
// other way does its name in a text become the token.
func (b *builder) namedToken(data json.RawMessage) (int32, error) {
	var name string
	if unmarshal(data, &name) != nil {
		var token struct {
			Content string `json:"content"`
		}
		if err := unmarshal(data, &token); err != nil {
			return 0, err
		}
		name = token.Content
	}
	for _, a := range b.image.Added {
		if b.texts[a.ID] == name {
			return a.ID, nil
		}
	}
	return 0, fmt.Errorf("%q is not among the added_tokens of %s", name, tokenizerName)
}

// tokenOfWord returns the id of the added token whose name is made of word,
// or -1.
func (b *builder) tokenOfWord(word string) int32 {
	for _, form := range nameForms {
		for _, a := range b.image.Added {
			if strings.EqualFold(b.texts[a.ID], fmt.Sprintf(form, word)) {
				return a.ID
			}
		}
	}
	return -1
}
