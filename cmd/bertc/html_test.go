package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOutputFiles: a file that cannot be written is named before any work: before the model is opened.
func TestOutputFiles(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "file")
	for _, c := range [][]string{
		{"calibrate", "--text", "x", "--out"},
		{"explain", "--svg"},
		{"diff", "--in", "x", "--extract"},
		{"run", "embed", "--out"},
		{"run", "--in", "x", "--out"},
		{"html", "-o"},
	} {
		for path, why := range map[string]string{missing: "no such file or directory", dir: "is a directory", "/dev/null": "is not a regular file"} {
			_, err := bertc(t, "", append(c, path, "--model", "nowhere")...)
			sentence(t, err, c[len(c)-1]+" "+path+": "+why)
		}
	}
	nothingIn(t, dir)
	same := filepath.Join(dir, "same")
	if err := os.WriteFile(same, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := bertc(t, "", "tune", "--config", tiny+"/config.json", "--out", same)
	sentence(t, err, same+":1: not a tuning record")
	if data, err := os.ReadFile(same); err != nil || string(data) != "a" {
		t.Errorf("tune left %q, %v", data, err)
	}
	for _, c := range [][]string{
		{"calibrate", "--text", same, "--out"},
		{"diff", "--in", same, "--extract"},
		{"run", "embed", "--in", same, "--out"},
		{"run", "--in", same, "--out"},
		{"tune", "--config", same, "--out"},
	} {
		args := append(c, dir+"/./same")
		if c[0] != "tune" {
			args = append(args, "--model", "nowhere")
		}
		_, err := bertc(t, "", args...)
		sentence(t, err, c[len(c)-1]+" "+dir+"/./same: is the file that is read")
	}
}
