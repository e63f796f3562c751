// Package models owns the checkpoint that ships inside the bertc binary: a trained,
// test-size RetrievaBERT (4 layers, hidden 192, vocabulary 4,608) with its tokenizer.
//
// The weights are under CC BY-SA 4.0; tiny/README.md carries the attributions and must
// stay beside them. This package imports nothing of the module. The fine-tuned checkpoint in
// sentiment/ does not ship: it is for tests, examples and trying heads out.
package models

import "embed"

// Tiny is the checkpoint directory "tiny" in the Hugging Face layout: config.json,
// model.safetensors (bf16), tokenizer.json and the two tokenizer side files.
//
//go:embed tiny/config.json tiny/model.safetensors tiny/tokenizer.json tiny/tokenizer_config.json tiny/special_tokens_map.json tiny/README.md
var Tiny embed.FS
