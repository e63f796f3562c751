// Package tokenizer turns text into the token ids of a Unigram vocabulary and
// back, exactly as Hugging Face tokenizers does, from an image: a flat
// little-endian block of tables that is used where it lies (usually a part of
// a mapped file) and from which nothing is built at start.
//
// The package owns the image format and everything that happens at run time.
// It knows nothing of tokenizer.json; package hf beside it reads that file and
// writes the image. It imports the standard library only and nothing of this
// module, because its files are copied as they are into generated packages.
//
// Start reading at [Open] in image.go, then [Tokenizer.AppendEncode] in
// encode.go. The stages of encoding have a file each: added.go cuts the added
// tokens out of the raw text, unigram.go finds the best pieces of what lies
// between, truncate.go shortens, encode.go applies the template, and
// offsets.go converts offsets. decode.go goes the other way.
package tokenizer
