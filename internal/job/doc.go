// Package job runs a task over a file of records: it reads JSON lines, CSV or lines of text, hands
// them on in chunks, and writes one line of JSON for each record, in order. A job that was
// interrupted goes on where it stopped. Embeddings can be written as a matrix.
//
// It imports checkpoint, for safetensors, and internal/nearest. Start reading at job.go.
package job
