package hf

// This file checks what is refused, with its words, and the files beside
// tokenizer.json.

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/tokenizer"
)

// base is a tokenizer.json that is accepted. The tests change parts of it.
const base = `{
	"version": "1.0", "truncation": null, "padding": null,
	"added_tokens": [
		{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
		{"id": 5, "content": "[MASK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
	],
	"normalizer": {"type": "Sequence", "normalizers": [
		{"type": "Replace", "pattern": {"Regex": "(?<!\\n)^"}, "content": "▁"},
		{"type": "Replace", "pattern": {"Regex": " "}, "content": "▁"}]},
	"pre_tokenizer": null,
	"post_processor": {"type": "TemplateProcessing",
		"single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
		"pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
		"special_tokens": {"s": {"id": "s", "ids": [1], "tokens": ["<s>"]}}},
	"decoder": {"type": "Sequence", "decoders": [
		{"type": "ByteFallback"}, {"type": "Replace", "pattern": {"Regex": "▁"}, "content": " "}, {"type": "Fuse"},
		{"type": "Replace", "pattern": {"Regex": "(?<!\\n)^ "}, "content": ""}]},
	"model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
		"vocab": [["<unk>", 0], ["<s>", 0], ["▁", -1], ["a", -2.5], ["▁a", -3]]}
}`

// with returns base with parts replaced by JSON texts. The name of a part is
// a key, or two with a dot between them.
func with(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	var d map[string]json.RawMessage
	if err := json.Unmarshal([]byte(base), &d); err != nil {
		t.Fatal(err)
	}
	for name, value := range parts {
		key, inner, nested := strings.Cut(name, ".")
		if nested {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(d[key], &m); err != nil {
				t.Fatal(err)
			}
			m[inner] = json.RawMessage(value)
			value = string(must(json.Marshal(m)))
		}
		d[key] = json.RawMessage(value)
	}
	return must(json.Marshal(d))
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// addedTokens returns a list with one added token, changed as given.
func addedTokens(changes map[string]any) string {
	token := map[string]any{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
		"normalized": false, "special": true}
	maps.Copy(token, changes)
	for k, v := range token {
		if v == nil {
			delete(token, k)
		}
	}
	return string(must(json.Marshal([]any{token})))
}

func nested(component, list string, depth int) string {
	return strings.Repeat(fmt.Sprintf(`{"type":"Sequence",%q:[`, list), depth) + component + strings.Repeat(`]}`, depth)
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ part, value, want string }{
		{"version", `"2.0"`, `version "2.0" is not supported (supported: 1.0)`},
		{"version", `7`, `"version" is a JSON number where another type belongs`},

		{"model", `null`, `model: it is missing`},
		{"model", `[]`, `model: it is a JSON array where another type belongs`},
		{"model", `{}`, `model: type "" is not supported (supported: Unigram)`},
		{"model.type", `"BPE"`, `model: type "BPE" is not supported (supported: Unigram)`},
		{"model.unk_id", `null`, `model: unk_id null is not supported`},
		{"model.unk_id", `5`, `model: unk_id 5 is not in the vocabulary of 5 entries`},
		{"model.unk_id", `-1`, `model: unk_id -1 is not in the vocabulary of 5 entries`},
		{"model.vocab", `[]`, `model: vocab is missing or empty`},
		{"model.vocab", `[["a"]]`, `model: vocab: entry 0 is not a text and a score`},
		{"model.vocab", `[["a", 1], ["b", null]]`, `model: vocab: entry 1 is not a text and a score`},
		{"model.vocab", `[["", 1]]`, `model: vocab: entry 0 is not a text and a score`},
		{"model.vocab", `[["a", 1e999]]`, `model: "vocab" is a JSON number 1e999 where another type belongs`},
		{"model.vocab", `[["a", 1e31]]`, `model: vocab: the score 1e+31 of entry 0 is beyond 1e+30`},
		{"model.vocab", `[["a", 1], ["b", 2], ["a", 3]]`, `model: vocab: entries 0 and 2 are both "a"`},

		{"added_tokens", `{}`, `added_tokens: it is a JSON object where another type belongs`},
		{"added_tokens", `[{}]`, `added_tokens: entry 0 has no content or no id`},
		{"added_tokens", addedTokens(map[string]any{"content": ""}), `added_tokens: entry 0 has no content or no id`},
		{"added_tokens", addedTokens(map[string]any{"id": 3}), `added_tokens: "<unk>" has the id 3 where its place in the vocabulary gives 0`},
		{"added_tokens", addedTokens(map[string]any{"content": "new", "id": 9}), `added_tokens: "new" has the id 9 where its place in the vocabulary gives 5`},
		{"added_tokens", addedTokens(map[string]any{"lstrip": nil}), `added_tokens: "<unk>" has no field "lstrip"`},
		{"added_tokens", addedTokens(map[string]any{"normalized": true}), `added_tokens: "<unk>": "normalized": true is not supported`},
		{"added_tokens", addedTokens(map[string]any{"single_word": true}), `added_tokens: "<unk>": "single_word": true is not supported`},
		{"added_tokens", addedTokens(map[string]any{"content": " x", "id": 5, "rstrip": true}),
			`added_tokens: "rstrip": true beside a token that starts with white space is not supported`},

		{"normalizer", `{"type": "NFKC"}`, `normalizer: type "NFKC" is not supported (supported: Sequence, Replace, Prepend)`},
		{"normalizer", `{"type": "Prepend", "prepend": "x"}`, `normalizer: Prepend: "x" is not supported (supported: "▁")`},
		{"normalizer", `{"type": "Replace", "pattern": {"Regex": "^"}, "content": "▁"}`,
			`normalizer: Replace: pattern "^" is not supported (supported: "(?<!\\n)^" and "(?<!\\n)^| " as a Regex, " ")`},
		{"normalizer", `{"type": "Replace", "pattern": {"String": "(?<!\\n)^"}, "content": "▁"}`,
			`normalizer: Replace: pattern "(?<!\\n)^" is not supported (supported: "(?<!\\n)^" and "(?<!\\n)^| " as a Regex, " ")`},
		{"normalizer", `{"type": "Replace", "pattern": {"Regex": "(?<!\\n)^| "}, "content": "▁"}`,
			`normalizer: Replace: pattern "(?<!\\n)^| " without a Replace of " " is not supported`},
		{"normalizer", `{"type": "Replace", "pattern": {"String": " "}, "content": "_"}`,
			`normalizer: Replace: content "_" is not supported (supported: "▁")`},
		{"normalizer", `{"type": "Replace", "pattern": {"String": " "}}`, `normalizer: Replace: content is missing`},
		{"normalizer", `{"type": "Replace", "content": "▁"}`, `normalizer: Replace: pattern is neither a String nor a Regex`},
		{"normalizer", `{"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Prepend", "prepend": "▁"}]}`,
			`normalizer: more than one prefix is not supported`},
		{"normalizer", nested(`{"type": "Prepend", "prepend": "▁"}`, "normalizers", 9),
			`normalizer: a Sequence more than 8 deep is not supported`},

		{"pre_tokenizer", `{"type": "Whitespace"}`, `pre_tokenizer: type "Whitespace" is not supported (supported: null, Metaspace)`},
		{"pre_tokenizer", `{"type": "Metaspace", "replacement": "▁", "split": false}`, `pre_tokenizer: Metaspace after a normalizer is not supported`},
		{"pre_tokenizer", `{"type": "Metaspace", "replacement": "▁"}`, `pre_tokenizer: Metaspace: split true is not supported (supported: false)`},
		{"pre_tokenizer", `{"type": "Metaspace", "replacement": "_", "split": false}`,
			`pre_tokenizer: Metaspace: replacement "_" is not supported (supported: "▁")`},
		{"pre_tokenizer", `{"type": "Metaspace", "replacement": "▁", "split": false, "prepend_scheme": "first"}`,
			`pre_tokenizer: Metaspace: prepend_scheme "first" is not supported (supported: always, never)`},
		{"pre_tokenizer", `{"type": "Metaspace", "replacement": "▁", "split": false, "add_prefix_space": false}`,
			`pre_tokenizer: Metaspace: add_prefix_space false contradicts prepend_scheme "always"`},

		{"post_processor", `{"type": "BertProcessing"}`, `post_processor: type "BertProcessing" is not supported (supported: null, TemplateProcessing)`},
		{"post_processor.single", `[{}]`, `post_processor: TemplateProcessing: single: an item is neither a Sequence nor a SpecialToken`},
		{"post_processor.single", `[{"Sequence": {"id": "B", "type_id": 0}}]`, `post_processor: TemplateProcessing: single: it has a second text`},
		{"post_processor.pair", `[{"Sequence": {"id": "C", "type_id": 0}}]`,
			`post_processor: TemplateProcessing: pair: the Sequence "C" is not supported (supported: A, B)`},
		{"post_processor.pair", `[{"SpecialToken": {"id": "x", "type_id": 0}}]`,
			`post_processor: TemplateProcessing: pair: the SpecialToken "x" is not among special_tokens`},
		{"post_processor.pair", `[{"Sequence": {"id": "A", "type_id": -1}}]`,
			`post_processor: TemplateProcessing: pair: the type_id -1 is out of range`},
		{"post_processor.special_tokens", `{"s": {"ids": [6]}}`,
			`post_processor: TemplateProcessing: single: the SpecialToken "s" has the id 6, which no token has`},

		{"decoder", `{"type": "WordPiece"}`,
			`decoder: type "WordPiece" is not supported (supported: Sequence, ByteFallback, Fuse, Replace, Strip, Metaspace)`},
		{"decoder", `{"type": "Replace", "pattern": {"Regex": "."}, "content": ""}`,
			`decoder: Replace: pattern "." is not supported (supported: a String, a Regex of one space or one non-ASCII character, "(?<!\\n)^ ")`},
		{"decoder", `{"type": "Replace", "pattern": {"String": ""}, "content": ""}`,
			`decoder: Replace: pattern "" is not supported (supported: a String, a Regex of one space or one non-ASCII character, "(?<!\\n)^ ")`},
		{"decoder", `{"type": "Strip", "content": "ab", "start": 0, "stop": 0}`,
			`decoder: Strip: content is not one character, or start or stop is missing`},
		{"decoder", `{"type": "Metaspace", "replacement": ""}`, `decoder: Metaspace: replacement "" is not one character`},
		{"decoder", nested(`{"type": "Fuse"}`, "decoders", 9), `decoder: a Sequence more than 8 deep is not supported`},
	} {
		_, err := Parse(with(t, map[string]string{c.part: c.value}), nil)
		if want := "tokenizer.json: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s = %s:\n got %v\nwant %s", c.part, c.value, err, want)
		}
	}
}

func TestErrorsOfTheWholeFile(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{``, `tokenizer.json: unexpected end of JSON input`},
		{`null`, `tokenizer.json: model: it is missing`},
		{`[]`, `tokenizer.json: it is a JSON array where another type belongs`},
		{`{"version": "1.0`, `tokenizer.json: unexpected end of JSON input`},
		{"\"\xff\"", `tokenizer.json: it is not valid UTF-8`},
	} {
		if _, err := Parse([]byte(c.file), nil); err == nil || err.Error() != c.want {
			t.Errorf("%q: error %v, want %s", c.file, err, c.want)
		}
	}
}

func TestDuplicateAddedToken(t *testing.T) {
	for _, content := range []string{"<unk>", "new"} {
		id := map[string]int{"<unk>": 0, "new": 5}[content]
		one := strings.Trim(addedTokens(map[string]any{"content": content, "id": id}), "[]")
		_, err := Parse(with(t, map[string]string{"added_tokens": "[" + one + "," + one + "]"}), nil)
		want := fmt.Sprintf("tokenizer.json: added_tokens: %q is listed twice", content)
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestTooManyCharacters(t *testing.T) {
	var vocab []string
	for r := rune(0x10000); len(vocab) < 1<<16; r++ {
		vocab = append(vocab, fmt.Sprintf("[%s,0]", must(json.Marshal(string(r)))))
	}
	_, err := Parse(with(t, map[string]string{"model.vocab": "[" + strings.Join(vocab, ",") + "]"}), nil)
	want := "tokenizer.json: model: vocab: more than 65535 different characters are not supported"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// open returns the tokenizer of an image, which must be sound.
func open(t testing.TB, image []byte, err error) *tokenizer.Tokenizer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestRoles(t *testing.T) {
	tokens := strings.TrimSuffix(addedTokens(nil), "]") + "," +
		strings.Trim(addedTokens(map[string]any{"id": 1, "content": "<s>"}), "[]") + "," +
		strings.Trim(addedTokens(map[string]any{"id": 5, "content": "[MASK]"}), "[]") + "," +
		strings.Trim(addedTokens(map[string]any{"id": 6, "content": "<mask|LLM-jp>"}), "[]") + "]"
	file := with(t, map[string]string{"added_tokens": tokens})
	for _, c := range []struct {
		name, config string
		mask, cls    int32 // or -1
		want         string
	}{
		{name: "by name, LLM-jp's first", mask: 6, cls: -1},
		{name: "as a string", config: `{"mask_token": "[MASK]", "cls_token": "<s>"}`, mask: 5, cls: 1},
		{name: "as an object", config: `{"mask_token": {"content": "[MASK]", "lstrip": true}}`, mask: 5, cls: -1},
		{name: "null", config: `{"mask_token": null}`, mask: 6, cls: -1},
		{name: "not an added token", config: `{"mask_token": "a"}`,
			want: `tokenizer_config.json: mask_token: "a" is not among the added_tokens of tokenizer.json`},
		{name: "not a token", config: `{"cls_token": 7}`,
			want: `tokenizer_config.json: cls_token: it is a JSON number where another type belongs`},
		{name: "not JSON", config: `{`, want: `tokenizer_config.json: unexpected end of JSON input`},
	} {
		var config []byte
		if c.config != "" {
			config = []byte(c.config)
		}
		image, err := Parse(file, config)
		if c.want != "" {
			if err == nil || err.Error() != c.want {
				t.Errorf("%s: error %v, want %s", c.name, err, c.want)
			}
			continue
		}
		tok := open(t, image, err)
		for what, ids := range map[string]struct {
			role func() (int32, bool)
			want int32
		}{"mask": {tok.MaskID, c.mask}, "cls": {tok.CLSID, c.cls}} {
			if id, ok := ids.role(); ok != (ids.want >= 0) || ok && id != ids.want {
				t.Errorf("%s: %s is %d, %v, want %d", c.name, what, id, ok, ids.want)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokenizer.json")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file: error %v", err)
	}
	if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "/dev/zero") {
		t.Errorf("an endless device: error %v", err)
	}
	write("tokenizer.json", "{")
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("not JSON: error %v", err)
	}
	write("tokenizer.json", base)
	write("special_tokens_map.json", "{")
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, "special_tokens_map.json")+": ") {
		t.Errorf("the roles are not JSON: error %v", err)
	}
	os.Remove(filepath.Join(dir, "special_tokens_map.json"))
	image, err := Load(path)
	tok := open(t, image, err)
	if id, ok := tok.MaskID(); !ok || id != 5 {
		t.Errorf("the mask by its name is %d, %v", id, ok)
	}
	write("special_tokens_map.json", `{"mask_token": "<unk>", "cls_token": "<unk>"}`)
	image, err = Load(path)
	tok = open(t, image, err)
	if id, ok := tok.MaskID(); !ok || id != 0 {
		t.Errorf("the mask by special_tokens_map.json is %d, %v", id, ok)
	}
	write("tokenizer_config.json", `{"mask_token": "[MASK]"}`)
	image, err = Load(path)
	tok = open(t, image, err)
	if id, ok := tok.MaskID(); !ok || id != 5 {
		t.Errorf("the mask by tokenizer_config.json is %d, %v", id, ok)
	}
	if id, ok := tok.CLSID(); !ok || id != 0 {
		t.Errorf("CLS by special_tokens_map.json is %d, %v", id, ok)
	}
}

// TestDeterministic checks that the same file gives the same image.
func TestDeterministic(t *testing.T) {
	first, err := Parse([]byte(base), nil)
	open(t, first, err)
	for range 3 {
		if again, err := Parse([]byte(base), nil); err != nil || string(again) != string(first) {
			t.Fatalf("another image, error %v", err)
		}
	}
}

// FuzzParse checks that any tokenizer.json gives an error or an image that
// opens and works.
func FuzzParse(f *testing.F) {
	f.Add([]byte(base), []byte(`{"mask_token": "[MASK]"}`), "私は[MASK] a𠮷")
	f.Add(with(f, map[string]string{"normalizer": `null`, "decoder": `null`, "post_processor": `null`,
		"pre_tokenizer": `{"type": "Metaspace", "replacement": "▁", "split": false}`}), []byte(`{}`), " a")
	f.Add(with(f, map[string]string{
		"normalizer":   `{"type": "Prepend", "prepend": "▁"}`,
		"added_tokens": addedTokens(map[string]any{"lstrip": true, "rstrip": true}),
		"decoder":      `{"type": "Strip", "content": " ", "start": 1, "stop": 1}`,
	}), []byte(`null`), "a <unk> a")
	f.Add([]byte(`{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",1e30],["aa",-1e30]]}}`), []byte(``), "aaaa")
	f.Fuzz(func(t *testing.T, file, config []byte, text string) {
		image, err := Parse(file, config)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has a newline: %q", err)
			}
			return
		}
		tok := open(t, image, nil)
		e, err := tok.EncodePair(text, text, tokenizer.Options{AddSpecial: true, OffsetUnit: tokenizer.UTF16})
		if err == nil {
			tok.Decode(e.IDs, false)
		}
	})
}
