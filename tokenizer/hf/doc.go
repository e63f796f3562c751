// Package hf reads tokenizer.json, the file in which Hugging Face tokenizers
// keep a tokenizer, and turns it into an image for package tokenizer.
//
// The package owns the decision which tokenizers are supported: it accepts the
// forms that the LLM-jp family and its relatives use, each of which the run
// time does exactly, and refuses everything else with an error that names the
// file, the component and its value. It runs when a model is compiled, never
// in a generated package, and imports the standard library and package
// tokenizer only.
//
// Supported are:
//
//   - model: Unigram with an unk_id, with or without byte_fallback
//   - normalizer: null; Sequence of a Replace of the start of the text
//     (the regular expression "(?<!\n)^") or a Prepend, by "▁", and a
//     Replace of the space by "▁"
//   - pre_tokenizer: null; without a normalizer also a Metaspace that does not
//     split and whose prepend_scheme is not "first"
//   - post_processor: null and TemplateProcessing
//   - decoder: null, ByteFallback, Replace, Fuse, Strip, Metaspace and Sequence
//   - added_tokens: any that are not normalized and not single_word
//
// The fields truncation and padding are defaults for calls, not a part of the
// tokenizer, and are ignored: the options of a call say what it truncates.
//
// Start reading at [Load] and [Parse] in hf.go; each component of the file has
// a Go file of its name, and trie.go builds the double array.
package hf
