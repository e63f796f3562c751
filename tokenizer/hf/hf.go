package hf

// This file owns the entry points and the order in which the components of
// tokenizer.json are read.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"github.com/bertc/bertc/tokenizer"
)

// The names of the files, as they stand in errors.
const (
	tokenizerName = "tokenizer.json"
	configName    = "tokenizer_config.json"
	specialName   = "special_tokens_map.json"
)

// maxFile is the size above which a file is refused unread.
const maxFile = 512 << 20

// Load reads the tokenizer.json at path, and tokenizer_config.json and
// special_tokens_map.json beside it if they are there, and returns the image
// that tokenizer.Open takes. The error is one sentence that names the file
// and what in it is wrong or not supported.
func Load(path string) (image []byte, err error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	var configs []namedFile
	for _, name := range []string{configName, specialName} {
		name = filepath.Join(filepath.Dir(path), name)
		data, err := read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		configs = append(configs, namedFile{name, data})
	}
	return build(namedFile{path, data}, configs)
}

// Parse is Load for files in memory. tokenizerConfigJSON is the content of
// tokenizer_config.json or special_tokens_map.json; it may be nil, and then
// the roles of special tokens are told by their names.
func Parse(tokenizerJSON, tokenizerConfigJSON []byte) (image []byte, err error) {
	var configs []namedFile
	if tokenizerConfigJSON != nil {
		configs = append(configs, namedFile{configName, tokenizerConfigJSON})
	}
	return build(namedFile{tokenizerName, tokenizerJSON}, configs)
}

// A namedFile is a file as errors name it.
type namedFile struct {
	name string
	data []byte
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1)) // a device has no size
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: it has more than the %d bytes that are supported", path, maxFile)
	}
	return data, err
}

// document is the top level of tokenizer.json.
type document struct {
	Version       string          `json:"version"`
	Model         json.RawMessage `json:"model"`
	AddedTokens   json.RawMessage `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
}

// builder is an image in the making with what the components need to know of
// each other.
type builder struct {
	image tokenizer.Image
	texts []string         // of all tokens, by id
	ids   map[string]int32 // of all tokens
	roles []namedFile      // where they are named

	startOrSpace bool // the normalizer has a Replace of textStartOrSpace
}

func build(tok namedFile, configs []namedFile) ([]byte, error) {
	b := &builder{ids: map[string]int32{}, roles: configs}
	if err := b.read(tok.data); err != nil {
		return nil, fmt.Errorf("%s: %w", tok.name, err)
	}
	if err := b.setRoles(); err != nil {
		return nil, err
	}
	for _, text := range b.texts {
		b.image.TokenText = append(b.image.TokenText, text...)
		b.image.TokenEnds = append(b.image.TokenEnds, uint32(len(b.image.TokenText)))
	}
	return b.image.Marshal()
}

func (b *builder) read(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("it is not valid UTF-8")
	}
	var d document
	if err := unmarshal(data, &d); err != nil {
		return err
	}
	if d.Version != "" && d.Version != "1.0" {
		return fmt.Errorf("version %q is not supported (supported: 1.0)", d.Version)
	}
	for _, part := range []struct {
		name string
		data json.RawMessage
		read func(json.RawMessage) error
	}{
		{"model", d.Model, b.readModel},
		{"added_tokens", d.AddedTokens, b.readAddedTokens},
		{"normalizer", d.Normalizer, b.readNormalizer},
		{"pre_tokenizer", d.PreTokenizer, b.readPreTokenizer},
		{"post_processor", d.PostProcessor, b.readPostProcessor},
		{"decoder", d.Decoder, b.readDecoder},
	} {
		if err := part.read(part.data); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// unmarshal is json.Unmarshal with an error that does not speak of Go types.
func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	where := "it"
	if wrong.Field != "" {
		where = strconv.Quote(wrong.Field)
	}
	return fmt.Errorf("%s is a JSON %s where another type belongs", where, wrong.Value)
}

// isNull reports whether a component is missing or null.
func isNull(data json.RawMessage) bool { return len(data) == 0 || string(data) == "null" }

// typeOf returns the type of a component. Its error lists the types that are
// supported.
func typeOf[T any](data json.RawMessage, supported map[string]T, names string) (T, error) {
	var c struct {
		Type string `json:"type"`
	}
	var none T
	if err := unmarshal(data, &c); err != nil {
		return none, err
	}
	entry, ok := supported[c.Type]
	if !ok {
		return none, fmt.Errorf("type %q is not supported (supported: %s)", c.Type, names)
	}
	return entry, nil
}
