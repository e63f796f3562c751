package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEval gives the accuracy that the README of the fine-tuned model reports, from PyTorch.
func TestEval(t *testing.T) {
	const sentiment = "../../models/sentiment"
	dir := filepath.Join(t.TempDir(), "sentiment")
	if _, err := bertc(t, "", "compile", "--model", sentiment, "--dtype", "f32", "--out", dir); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(sentiment, "dev.jsonl")
	out, err := bertc(t, "", "eval", "--task", "marc-ja", "--package", dir, "--data", data)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "| Model | MARC-ja/acc |\n| :--- | ---: |\n| sentiment | 0.955 |\n") || !strings.Contains(out, "MARC-ja/acc: 0.9550, 95 % interval") {
		t.Errorf("got %s", out)
	}
	readme, err := os.ReadFile(filepath.Join(sentiment, "README.md"))
	if err != nil || !strings.Contains(string(readme), "accuracy **0.955**") {
		t.Errorf("the README reports another accuracy, %v", err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--task", "jcola", "--package", dir, "--data", data}, []string{"jcola", "jcommonsenseqa"}},
		{[]string{"--task", "jsquad", "--package", dir, "--data", data}, []string{"dev.jsonl"}},
		{[]string{"--task", "jnli", "--package", dir, "--data", data}, []string{"dev.jsonl", "line 1", "sentence1"}},
		{[]string{"--task", "marc-ja", "--data", data}, []string{"--package"}},
		{[]string{"--task", "marc-ja", "--package", dir, "--data", data, "--max-length", "1"}, []string{"400 of 400", "record 1: "}},
	} {
		_, err := bertc(t, "", append([]string{"eval"}, c.args...)...)
		sentence(t, err, c.want...)
	}
}

// TestNotFinite: what a model with a weight that is NaN answers is said in a sentence.
func TestNotFinite(t *testing.T) {
	dir := copyModel(t)
	edit(t, filepath.Join(dir, "model.safetensors"), func(b []byte) []byte {
		return append(b[:len(b)-2], 0xc0, 0x7f) // the last element, of the head's transform, in bf16
	})
	_, err := bertc(t, "", "fill-mask", "--model", dir, "私<MASK|LLM-jp>")
	sentence(t, err, "text 1", "not finite")
}
