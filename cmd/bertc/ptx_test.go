package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/internal/gpucheck"
	"github.com/bertc/bertc/internal/pipeline"
)

const ptxKernels = "../../codegen/ptx/emu/testdata/"

// TestPTXRun runs a kernel on files and compares what it writes.
func TestPTXRun(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "x.bin"), filepath.Join(dir, "y.bin")
	var x, want []byte
	for i := range 200 {
		v := float32(i) / 4
		x = binary.LittleEndian.AppendUint32(x, math.Float32bits(v))
		want = binary.LittleEndian.AppendUint32(want, math.Float32bits(2*v+1))
	}
	if err := os.WriteFile(in, x, 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, err := bertc(t, "", "ptx", "run", ptxKernels+"axpb.ptx", "--grid", "2", "--block", "128", "--seeds", "2",
		"--param", "in:"+in, "--param", "out:"+out+":800", "--param", "f32=2", "--param", "f32=1", "--param", "u32=200")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(stdout, "no fault") != 2 {
		t.Errorf("got %q", stdout)
	}
	got, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the result is not 2x+1 (%v)", err)
	}
}

func TestPTXRunErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.ptx")
	if err := os.WriteFile(bad, []byte(".version 8.0\n.target sm_90a\n.address_size 64\n.entry k() { frob.u32; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	axpb := []string{ptxKernels + "axpb.ptx", "--grid", "2", "--block", "128"}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"nowhere.ptx"}, []string{"nowhere.ptx"}},
		{[]string{bad}, []string{"line 4", "frob"}},
		{axpb, []string{"5 parameters", "n (u32)"}},
		{[]string{ptxKernels + "axpb.ptx", "--entry", "nope"}, []string{"nope", "axpb"}},
		{append(axpb, "--grid", "0"), []string{"--grid", "0"}},
		{append(axpb, "--seeds", "0"), []string{"--seeds 0"}},
		{append(axpb, "--sms", "-3"), []string{"--sms -3"}},
		{append(axpb, "--param", "zeros:800", "--param", "empty:800", "--param", "f32=x", "--param", "f32=1", "--param", "u32=200"), []string{"parameter 3", `"x"`}},
		{append(axpb, "--param", "zeros:999999999999999", "--param", "empty:800", "--param", "f32=1", "--param", "f32=1", "--param", "u32=200"), []string{"parameter 1", "999999999999999 bytes"}},
		{append(axpb, "--param", "random:f32:9999999999", "--param", "empty:800", "--param", "f32=1", "--param", "f32=1", "--param", "u32=200"), []string{"parameter 1", `"9999999999"`}},
		{append(axpb, "--param", "zero:800", "--param", "empty:800", "--param", "f32=1", "--param", "f32=1", "--param", "u32=200"), []string{"parameter 1", `"zero"`}},
		{append(axpb, "--param", "zeros:800", "--param", "empty:800", "--param", "f32=1", "--param", "f32=1", "--param", "u32=256"), []string{"out of bounds", "axpb.ptx", "ld.global.f32"}},
		{append(axpb, "--param", "empty:800", "--param", "empty:800", "--param", "f32=1", "--param", "f32=1", "--param", "u32=200"), []string{"uninitialised read"}},
		{append(axpb, "--param", "map:bf16:8x8:8x8:128B:#2", "--param", "empty:800", "--param", "f32=1", "--param", "f32=1", "--param", "u32=200"), []string{"x"}},
	} {
		_, err := bertc(t, "", append([]string{"ptx", "run"}, c.args...)...)
		if err == nil {
			t.Errorf("%q: no error", c.args)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: the error %q has no %q", c.args, err, w)
			}
		}
	}
}

// TestPTXRunFiles: where one of several results cannot be written, none is.
func TestPTXRunFiles(t *testing.T) {
	dir := t.TempDir()
	run := func(second string) error {
		_, err := bertc(t, "", "ptx", "run", ptxKernels+"axpb.ptx", "--grid", "2", "--block", "128",
			"--param", "out:"+filepath.Join(dir, "x.bin")+":800", "--param", "out:"+second+":800", "--param", "f32=2", "--param", "f32=1", "--param", "u32=0")
		return err
	}
	sentence(t, run(filepath.Join(dir, "nowhere", "y.bin")), "parameter 2", "nowhere")
	sentence(t, run(dir), "parameter 2", dir, "directory")
	sentence(t, run(filepath.Join(dir, "x.bin")), "x.bin", "two parameters")
	nothingIn(t, dir)
	small := smallDisk(t, "size=4k,nr_inodes=3")
	if err := os.WriteFile(filepath.Join(small, "full"), make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	sentence(t, run(filepath.Join(small, "y.bin")), "no space left on device")
	nothingIn(t, dir)
	if err := os.Remove(filepath.Join(small, "full")); err != nil {
		t.Fatal(err)
	}
	if err := run(filepath.Join(small, "y.bin")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "x.bin"), filepath.Join(small, "y.bin")} {
		if info, err := os.Stat(name); err != nil || info.Size() != 800 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPTXCheckJSON: the file is there also where the check fails, and one that cannot be written is an
// error before the check.
func TestPTXCheckJSON(t *testing.T) {
	out := filepath.Join(t.TempDir(), "ours.json")
	t.Setenv("CUDA_VISIBLE_DEVICES", "") // also where there is one
	_, err := bertc(t, "", "ptx", "check", "--json", out)
	sentence(t, err, "GPU")
	var report gpucheck.Report
	text, err := os.ReadFile(out)
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil || report.Version != pipeline.Version() {
		t.Errorf("it wrote %s, %v", text, err)
	}
	_, err = bertc(t, "", "ptx", "check", "--json", filepath.Join(t.TempDir(), "nowhere", "ours.json"))
	sentence(t, err, "nowhere")
}

// TestPTXDocs runs the examples of the document.
func TestPTXDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ptx-emulator.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^\$ bertc (ptx run(?:.*\\\n)*.*)\n((?:[^$\x60].*\n)*)`).FindAllStringSubmatch(string(doc), -1)
	if len(commands) < 2 {
		t.Fatalf("the document has %d commands", len(commands))
	}
	t.Chdir("../..")
	for _, c := range commands {
		args := strings.Fields(strings.ReplaceAll(c[1], "\\\n", " "))
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "/tmp/", t.TempDir()+"/")
		}
		out, err := bertc(t, "", args...)
		if err != nil {
			out += "bertc: " + err.Error() + "\n"
		}
		if out != c[2] {
			t.Errorf("bertc %s\nprinted:\n%s\nthe document says:\n%s", c[1], out, c[2])
		}
	}
}

// TestPTXPredict: docs/h100.md quotes the command as it answers; -update rewrites it there.
func TestPTXPredict(t *testing.T) {
	out, err := bertc(t, "", "ptx", "predict", "--config", "../../examples/fullsize/config.json")
	if err != nil {
		t.Fatal(err)
	}
	for shape, want := range map[string]string{"1x2049": "2049 tokens", "8+99999": "99999 tokens", "1x-1": "1x-1", "": `""`, "99999999x2048": "99999999x2048"} {
		_, err := bertc(t, "", "ptx", "predict", "--config", "../../examples/fullsize/config.json", "--shapes", shape)
		sentence(t, err, "--shapes", want)
	}
	const file = "../../docs/h100.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile("(?s)```\n +1x32 .*?```\n")
	want := table.ReplaceAllLiteral(doc, []byte("```\n"+out+"```\n"))
	switch {
	case !table.Match(doc):
		t.Errorf("%s has no table of 1x32", file)
	case bytes.Equal(doc, want):
	case *filetest.Update:
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not have what bertc ptx predict prints (-update rewrites it):\n%s", file, out)
	}
}
