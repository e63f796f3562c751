package bert

// This file owns reading single fields of config.json: their synonyms, types and bounds.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// synonyms lists the fields that go by several names; the first is the one that messages and
// Decisions use.
var synonyms = map[string][]string{
	"num_key_value_heads":     {"num_kv_heads", "num_query_groups"},
	"layer_norm_eps":          {"rms_norm_eps", "norm_eps", "layernorm_epsilon"},
	"norm_type":               {"normalization", "layer_norm_type"},
	"position_embedding_type": {"position_embeddings_type"},
	"rope_theta":              {"rotary_base", "rotary_emb_base"},
	"hidden_act":              {"hidden_activation"},
	"intermediate_size":       {"ffn_hidden_size"},
	"head_dim":                {"kv_channels"},
	"mlp_bias":                {"add_mlp_bias"},
	"attention_bias":          {"add_attention_bias"},
}

// reader collects a Config. The first error is kept, and later calls change nothing about it.
type reader struct {
	file    string
	fields  map[string]json.RawMessage
	tensors TensorView
	c       Config
	err     error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s", r.file, fmt.Sprintf(format, args...))
	}
}

func (r *reader) decide(field string, value any, why string) {
	r.c.Decisions = append(r.c.Decisions, Decision{field, fmt.Sprint(value), why})
}

// find returns the value of a field under any of its names; null counts as absent.
func (r *reader) find(field string) (name string, raw json.RawMessage, ok bool) {
	for _, n := range append([]string{field}, synonyms[field]...) {
		v, has := r.fields[n]
		if !has || string(v) == "null" {
			continue
		}
		if ok && string(v) != string(raw) {
			r.fail("fields %q (%s) and %q (%s) contradict each other", name, shorten(raw), n, shorten(v))
		}
		if !ok {
			name, raw, ok = n, v, true
		}
	}
	return name, raw, ok
}

// decode reads a field into a Go value; what names the type for the message.
func decode[T any](r *reader, field, what string) (v T, name string, ok bool) {
	name, raw, ok := r.find(field)
	if !ok {
		return v, name, false
	}
	if json.Unmarshal(raw, &v) != nil {
		r.fail("field %q: expected %s, found %s", name, what, shorten(raw))
		return v, name, false
	}
	r.decide(field, shorten(raw), "config.json")
	return v, name, true
}

func (r *reader) integer(field string, lo, hi int) (int, bool) {
	n, name, ok := decode[json.Number](r, field, "a whole number")
	if !ok {
		return 0, false
	}
	raw := string(r.fields[name])
	v, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || n.String() != raw {
		r.fail("field %q: expected a whole number, found %s", name, shorten(r.fields[name]))
		return 0, false
	}
	if v < int64(lo) || v > int64(hi) {
		r.fail("field %q: expected %d to %d, found %d", name, lo, hi, v)
		return 0, false
	}
	return int(v), true
}

// number reads a number greater than lo and at most hi.
func (r *reader) number(field string, lo, hi float64) (float64, bool) {
	v, name, ok := decode[float64](r, field, "a number")
	if ok && !(v > lo && v <= hi) {
		r.fail("field %q: expected a number above %g and at most %g, found %g", name, lo, hi, v)
	}
	return v, ok
}

func (r *reader) text(field string) (string, bool) {
	v, _, ok := decode[string](r, field, "a string")
	return v, ok
}

func (r *reader) texts(field string) []string {
	v, _, _ := decode[[]string](r, field, "a list of strings")
	return v
}

func (r *reader) flag(field string) (value, ok bool) {
	v, _, ok := decode[bool](r, field, "true or false")
	return v, ok
}

func (r *reader) object(field string) map[string]json.RawMessage {
	v, _, _ := decode[map[string]json.RawMessage](r, field, "an object")
	return v
}

// word reads a field that has one of a few values; table maps spellings to values.
func word[T any](r *reader, field, supported string, table map[string]T) (value T, ok bool) {
	s, ok := r.text(field)
	if !ok {
		return value, false
	}
	if value, ok = table[s]; !ok {
		r.fail("%s %q is not supported (supported: %s)", field, s, supported)
	}
	return value, ok
}

// shorten is a JSON value for a message: on one line, and not longer than a line.
func shorten(raw json.RawMessage) string {
	const limit = 60
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		b.Reset()
		b.Write(raw)
	}
	if b.Len() <= limit {
		return b.String()
	}
	return string(b.Bytes()[:limit]) + "…"
}
