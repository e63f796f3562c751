package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRunTask(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("私は学校に行きます。", 400)
	in := "私は学校<MASK|LLM-jp>行きます。\n\nマスクのない文です。\n\xff\n" + long + "\n机の上に本<MASK|LLM-jp>あります。\n"
	out, err := bertc(t, in, "run", "fill-mask", "--package", dir, "--format", "txt", "--top-k", "1")
	var failed failedRecords
	if !errors.As(err, &failed) || failed != (failedRecords{4, 6, inLines}) {
		t.Errorf("got %v", err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	want := []string{`"token_str":"に"`, "the text is empty", "the text has no mask token", "not valid UTF-8 at byte 0", "at most 2048 are allowed", `"token_str":"が"`}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines: %.1000s", len(lines), out)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], fmt.Sprintf(`{"record":%d,`, i+1)) || !strings.Contains(lines[i], w) {
			t.Errorf("line %d: %.300s, want %s", i, lines[i], w)
		}
	}
	_, err = bertc(t, "", "run", "embed", "--package", dir, "--in", tiny+"/README.md", "--format", "txt", "--out", filepath.Join(t.TempDir(), "x.npy"))
	sentence(t, err, "records failed, their rows are NaN", "the first is record", "the text is empty")
}

func TestRunTaskErrors(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"summarize"}, []string{`"summarize"`, "fill-mask, classify"}},
		{[]string{"tag"}, []string{"no task tag", "embed, fill-mask"}},
		{[]string{"embed", "--aggregation", "max"}, []string{"--aggregation", "tag", "embed"}},
		{[]string{"embed", "--dimensions", "1000"}, []string{"1000", "192"}},
		{[]string{"embed", "--pooling", "sum"}, []string{`"sum"`}},
		{[]string{"embed", "--outputs", "logits"}, []string{"--outputs"}},
		{[]string{"fill-mask", "--out", "x.npy"}, []string{"x.npy"}},
		{[]string{"embed", "--batch-tokens", "-1", "--in", tiny + "/config.json", "--out", filepath.Join(out, "x")}, []string{"batch tokens -1"}},
		{[]string{"embed", "--format", "xml"}, []string{`"xml"`}},
		{[]string{"embed", "--in", "nowhere.txt"}, []string{"nowhere.txt"}},
		{[]string{"--top-k", "3"}, []string{"--top-k", "TASK"}},
		{[]string{}, []string{"--in", "--out"}},
	} {
		_, err := bertc(t, "\"a\"\n", append([]string{"run", "--package", dir}, c.args...)...)
		sentence(t, err, c.want...)
	}
	nothingIn(t, out)
}

// TestRunTaskInterrupted stops a job while it runs; the same command then finishes it, and the
// output has the bytes of a job that was not stopped.
func TestRunTaskInterrupted(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&lines, "%d番目の文は、%s短いです。\n", i, strings.Repeat("とても", i%7))
	}
	in := filepath.Join(tmp, "in.txt")
	if err := os.WriteFile(in, []byte(lines.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	args := func(out string) []string {
		return []string{"run", "embed", "--package", dir, "--in", in, "--out", filepath.Join(tmp, out), "--dimensions", "4"}
	}
	if _, err := bertc(t, "", args("whole.jsonl")...); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	partial := filepath.Join(tmp, "cut.jsonl.partial")
	go func() {
		for ctx.Err() == nil {
			if info, err := os.Stat(partial); err == nil && info.Size() > 0 {
				stop()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	c := root()
	c.SetArgs(args("cut.jsonl"))
	c.SetOut(io.Discard)
	c.SetErr(io.Discard)
	if err := c.ExecuteContext(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "goes on from there") {
		t.Fatalf("interrupted: %v", err)
	}
	done, err := os.ReadFile(partial)
	if n := strings.Count(string(done), "\n"); err != nil || n == 0 || n >= 3000 {
		t.Fatalf("%d records are done, %v", n, err)
	}
	if _, err := bertc(t, "", args("cut.jsonl")...); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(filepath.Join(tmp, "whole.jsonl"))
	cut, _ := os.ReadFile(filepath.Join(tmp, "cut.jsonl"))
	if strings.Count(string(whole), "\n") != 3000 || string(whole) != string(cut) {
		t.Errorf("the interrupted job wrote %d bytes, the whole one %d", len(cut), len(whole))
	}
}

// TestInitTokenizer: a random checkpoint may have a tokenizer, which must fit its vocabulary.
func TestInitTokenizer(t *testing.T) {
	config, err := os.ReadFile("../../testdata/heads/qa.config.json")
	if err != nil {
		t.Fatal(err)
	}
	const tok = tiny + "/tokenizer.json"
	out := filepath.Join(t.TempDir(), "model")
	if _, err := bertc(t, "", "init", "--config", "../../testdata/heads/qa.config.json", "--tokenizer", tok, "--out", out); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(tok)
	if got, err := os.ReadFile(filepath.Join(out, "tokenizer.json")); err != nil || string(got) != string(want) {
		t.Errorf("the tokenizer differs, %v", err)
	}
	if shown, err := bertc(t, "", "inspect", out, "--task", "encoder"); err != nil || !strings.Contains(shown, "ignored: task encoder does not use it") {
		t.Errorf("inspect: %v, %.300s", err, shown)
	}
	small := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(small, []byte(strings.Replace(string(config), `"vocab_size": 4608`, `"vocab_size": 100`, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = bertc(t, "", "init", "--config", small, "--tokenizer", tok, "--out", out+"2")
	sentence(t, err, "4608", "100", tok)
	_, err = bertc(t, "", "init", "--config", small, "--tokenizer", tiny+"/model.safetensors", "--out", out+"2")
	sentence(t, err, tiny+"/model.safetensors")
	if _, err := os.Stat(out + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory is left behind: %v", err)
	}
}
