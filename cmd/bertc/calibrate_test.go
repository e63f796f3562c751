package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	tinyModel      = "../../models/tiny"
	sentimentModel = "../../models/sentiment"
)

// TestCalibrate goes from text to a package: calibrate, compile, verify.
func TestCalibrate(t *testing.T) {
	dir := t.TempDir()
	text, file, pkg := filepath.Join(dir, "text"), filepath.Join(dir, "calibration"), filepath.Join(dir, "model")
	if err := os.WriteFile(text, []byte("私は学校に行きます。\n机の上に本があります。\n彼女は歌が上手だ。\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := bertc(t, "", "calibrate", "--model", tinyModel, "--text", text, "--out", file)
	if err != nil || !strings.Contains(out, "int8 on ") || !strings.Contains(out, "wrote "+file) {
		t.Fatalf("%v\n%s", err, out)
	}
	written, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(written), "\nmatmul layer.3.down ") {
		t.Errorf("%v\n%.500s", err, written)
	}
	if _, err := bertc(t, "", "compile", "--model", tinyModel, "--dtype", "int8", "--calibration", file, "--out", pkg); err != nil {
		t.Fatal(err)
	}
	out, err = bertc(t, "", "verify", "--model", tinyModel, "--b", pkg, "--text", text, "--max-error", "0.04")
	if err != nil || !strings.Contains(out, pkg+" on ") || !strings.Contains(out, "\nhidden ") || !strings.Contains(out, "masked tokens") {
		t.Errorf("%v\n%s", err, out)
	}
	// The error is not 0: 8 bits are not that good.
	_, err = bertc(t, "", "verify", "--model", tinyModel, "--b", pkg, "--text", text, "--max-error", "1e-4")
	sentence(t, err, "last hidden states", "--max-error 0.0001")
	if texts, err := os.ReadDir(dir); err != nil || len(texts) != 3 {
		t.Errorf("%d files are left, %v", len(texts), err)
	}
}

// TestCalibrationErrors: what is wrong with a text or a calibration is said in a sentence.
func TestCalibrationErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	compile := func(dtype, file string) []string {
		return []string{"compile", "--model", tinyModel, "--dtype", dtype, "--calibration", file, "--out", filepath.Join(dir, "out")}
	}
	verify := func(args ...string) func(string) []string {
		return func(f string) []string {
			return append([]string{"verify", "--model", tinyModel, "--text", f}, args...)
		}
	}
	pkg, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file string
		args func(file string) []string
		want []string
	}{
		{"", func(f string) []string { return compile("int8", f) }, []string{"file", "no line of a matmul"}},
		{"note a", func(f string) []string { return compile("int8", f) }, []string{"file", "no line of a matmul"}},
		{"matmul x int8\nnote " + strings.Repeat("a", 3<<20), func(f string) []string { return compile("int8", f) }, []string{"file:2:", "longer than 2097152 bytes"}},
		{strings.Repeat("\x00{", 1000), func(f string) []string { return compile("int8", f) }, []string{"file:1:", "matmul"}},
		{"", func(f string) []string { return []string{"fill-mask", "--package", pkg, "--calibration", f, "x"} }, []string{"--calibration", "file", "--model"}},
		{"a\n" + strings.Repeat("a", 3<<20), verify(), []string{"file:2:", "longer than 1048576 bytes"}},
		{"a", verify("--max-error", "NaN"), []string{"--max-error NaN"}},
		{"a", verify("--max-error", "-1"), []string{"--max-error -1"}},
		{"a", verify("--max-error", "inf"), []string{"--max-error +Inf"}},
		{"a", verify("--calibration", "x", "--b", "bf16"), []string{"--calibration x", "int8", "--a", "--b"}},
		{"a", func(f string) []string {
			return []string{"verify", "--model", sentimentModel, "--text", f, "--a", "bf16", "--b", pkg}
		}, []string{pkg, "sentiment"}},
		{"a\nb", func(f string) []string {
			return []string{"calibrate", "--model", tinyModel, "--text", f, "--error", "inf"}
		}, []string{"--error +Inf"}},
		{"", func(f string) []string { return compile("bf16", f) }, []string{"--calibration", "int8", "bf16"}},
		{"", func(f string) []string { return compile("int8", f+"s") }, []string{"files"}},
		{"matmul x int4", func(f string) []string { return compile("int8", f) }, []string{"file:1:", "int4"}},
		{"model 2 layers", func(f string) []string { return compile("int8", f) }, []string{"file", "2 layers", "4 layers, hidden 192"}},
		{"matmul layer.4.qkv int8", func(f string) []string { return compile("int8", f) }, []string{"file", "layer.4.qkv"}},
		{"matmul layer.0.qkv int8\nsmooth layer.0.qkv 1 2", func(f string) []string { return compile("int8", f) }, []string{"file", "layer.0.qkv", "192"}},
		{"", func(f string) []string { return []string{"calibrate", "--model", tinyModel} }, []string{"--text"}},
		{"", func(f string) []string { return []string{"calibrate", "--model", tinyModel, "--text", f} }, []string{"file"}},
		{"a\nb", func(f string) []string {
			return []string{"calibrate", "--model", tinyModel, "--text", f, "--error", "0"}
		}, []string{"--error"}},
		{"a", func(f string) []string { return []string{"verify", "--model", tinyModel} }, []string{"--text"}},
		{"a", func(f string) []string { return []string{"verify", "--text", f} }, []string{"--model"}},
		{"a", func(f string) []string {
			return []string{"verify", "--model", tinyModel, "--text", f, "--mask-every", "-1"}
		}, []string{"--mask-every"}},
		{"a\n\xff", func(f string) []string { return []string{"verify", "--model", tinyModel, "--text", f} }, []string{"file:2:"}},
		{"a", func(f string) []string { return []string{"verify", "--model", tinyModel, "--text", f, "--a", "fp8"} }, []string{"--a", "fp8"}},
	} {
		_, err := bertc(t, "", c.args(write(c.file))...)
		sentence(t, err, c.want...)
	}
}
