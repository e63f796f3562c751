// Package checkpoint owns everything on disk that holds weights: the safetensors files of a
// Hugging Face directory (read and written), the table of tensor names, random checkpoints,
// and the packed weight file of a generated package.
//
// Files are mapped, not read: a tensor's bytes are looked at in place and given back with
// Release, so that peak memory does not follow the size of the model. A file is checked
// completely (header length, names, dtypes, shapes, offsets, overlaps) before any tensor of it
// is looked at.
//
// Tensors are known by canonical names (names.go), which are the Megatron-BERT names without
// the "bert." prefix. What a tensor means, and which tensors a model needs, is the business of
// graph/bert; the caller passes that list in as []Want.
//
// The package may import program, kernel, ir and internal/num; it must not import graph/bert,
// passes, codegen or emit. Start reading at checkpoint.go; the file format is in safetensors.go,
// the packed file in pack.go.
package checkpoint
