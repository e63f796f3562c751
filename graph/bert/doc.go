// Package bert knows the architecture of RetrievaBERT: it reads config.json, lists the tensors of
// a model, and builds its graph. Names and shapes are all it deals in; it never touches data.
//
// It imports ir. Start reading at config.go (what a model is), then build.go.
package bert
