package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// records makes n JSON lines, some of which are bad in every way that a record can be.
func records(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		switch i % 997 {
		case 100:
			b.WriteString("\n")
		case 200:
			b.WriteString("{\"text\":\"\xff\"}\n")
		case 300:
			b.WriteString("{\"text\":\n")
		case 400:
			b.WriteString("{\"text\":\"refused\"}\n")
		default:
			fmt.Fprintf(&b, "{\"id\":%d,\"text\":\"文 <%d>\"}\n", i, i)
		}
	}
	return b.Bytes()
}

var errStop = errors.New("stopped")

// echo is a task that gives its input back. It stops the job after some chunks, never when
// chunks is negative.
func echo(chunks int, inputs *int) func([]json.RawMessage) ([]Result, error) {
	return func(in []json.RawMessage) ([]Result, error) {
		if chunks == 0 {
			return nil, errStop
		}
		chunks--
		*inputs += len(in)
		var out []Result
		for _, x := range in {
			if strings.Contains(string(x), "refused") {
				out = append(out, Result{Err: errors.New("refused")})
				continue
			}
			out = append(out, Result{JSON: fmt.Appendf(nil, `{"vector":[%d,0.1]}`, len(x))})
		}
		return out, nil
	}
}

// run runs a job into path until it ends or stops.
func run(t *testing.T, path string, in []byte, chunks int, inputs *int) (Summary, error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(in), "jsonl", "embed", nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Open(path, map[string]string{"task": "embed"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s, err := Job{In: r, Call: echo(chunks, inputs)}.Run(context.Background(), out, out.Done)
	if err != nil {
		return s, err
	}
	return s, out.Complete(Matrix(path))
}

// TestResume: a job of 10,000 records that is interrupted again and again, and whose last line is
// cut each time, writes the bytes of one that is not.
func TestResume(t *testing.T) {
	in := records(10000)
	dir := t.TempDir()
	whole := 0
	want := filepath.Join(dir, "whole.jsonl")
	s, err := run(t, want, in, -1, &whole)
	if err != nil || s.Records != 10000 || s.Failed != 40 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, ending := range []string{".jsonl", ".npy", ".safetensors"} {
		reference := filepath.Join(dir, "reference"+ending)
		if _, err := run(t, reference, in, -1, new(int)); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		path := filepath.Join(dir, "cut"+ending)
		inputs, stops := 0, 0
		var last Summary
		for {
			var err error
			last, err = run(t, path, in, 1+rng.IntN(4), &inputs)
			if err == nil {
				break
			}
			if !errors.Is(err, errStop) {
				t.Fatal(err)
			}
			stops++
			info, err := os.Stat(path + ".partial")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path+".partial", info.Size()-rng.Int64N(300)); err != nil {
				t.Fatal(err)
			}
		}
		if stops < 8 || inputs <= whole {
			t.Errorf("%d stops, %d inputs of %d: nothing was tested", stops, inputs, whole)
		}
		if last.Records != s.Records || last.Failed != s.Failed {
			t.Errorf("%s: %+v, without interruption %+v", ending, last, s)
		}
		got, _ := os.ReadFile(path)
		if expected, err := os.ReadFile(reference); err != nil || !bytes.Equal(got, expected) {
			t.Errorf("%s: the interrupted job wrote other bytes, %v", ending, err)
		}
		for _, rest := range []string{".partial", ".job"} {
			if _, err := os.Stat(path + rest); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", path+rest, err)
			}
		}
	}
	f, err := os.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	failed := 0
	if err := eachLine(f, func(line Line, _ int) error {
		if line.Error != "" {
			failed++
		} else if string(line.ID) != fmt.Sprint(line.Record-1) {
			return fmt.Errorf("record %d has id %s", line.Record, line.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if failed != s.Failed {
		t.Errorf("%d lines with an error, the summary says %d", failed, s.Failed)
	}
}

func TestResumeRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.jsonl")
	in := records(1000)
	if _, err := run(t, path, in, 2, new(int)); !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	for name, identity := range map[string]map[string]string{`task is "embed", here it is "tag"`: {"task": "tag"}, "standard input": nil} {
		if _, err := Open(path, identity); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "out.jsonl.job") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := run(t, path, in[:2000], -1, new(int)); err == nil || !strings.Contains(err.Error(), "fewer records") {
		t.Errorf("a shorter input: %v", err)
	}
	data, err := os.ReadFile(path + ".partial")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".partial", bytes.Replace(data, []byte(`"record":7`), []byte(`"record":8`), 1), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, map[string]string{"task": "embed"}); err == nil || !strings.Contains(err.Error(), "line 7 is of record 8") {
		t.Errorf("another line: %v", err)
	}
}

func TestRecords(t *testing.T) {
	for _, c := range []struct {
		format, task string
		columns      map[string]string
		in           string
		want         []string // input, or ! and a part of the error
	}{
		{"txt", "embed", nil, "a\r\n\n\xe3\x81\x82", []string{`"a"`, `""`, `"あ"`}},
		{"txt", "embed", nil, "\ufeffa\n\ufeffb\n", []string{`"a"`, "\"\ufeffb\""}},
		{"jsonl", "embed", nil, "\ufeff\"a\"\n", []string{`"a"`}},
		{"txt", "classify", nil, "a\n", []string{`{"text":"a"}`}},
		{"txt", "tag", nil, "a\xff\n", []string{"!not valid UTF-8 at byte 1"}},
		{"jsonl", "embed", nil, "\"a\"\n{\"text\":\"b\"}\n{\"text\":1}\n{}\n[]\n\n", []string{`"a"`, `"b"`, `!"text": expected a string`, `!"text" is missing`, "!not a JSON object: found array", "!empty"}},
		{"jsonl", "classify", map[string]string{"pair": "s2"}, `{"text":"a","s2":"b"}` + "\n" + `{"text":"a","s2":null}`, []string{`{"pair":"b","text":"a"}`, `{"text":"a"}`}},
		{"jsonl", "answer", nil, `{"question":"q"}`, []string{`!"context" is missing`}},
		{"jsonl", "choose", nil, `{"prompt":"p","choices":["a","b"]}` + "\n" + `{"prompt":"p","choices":"a"}`, []string{`{"choices":["a","b"],"prompt":"p"}`, "!expected a list of strings"}},
		{"csv", "classify", nil, "\ufefftext,pair\na,b\n\"c, \"\"d\"\"\ne\",\nf\n", []string{`{"pair":"b","text":"a"}`, `{"text":"c, \"d\"\ne"}`, `{"text":"f"}`}},
		{"csv", "choose", nil, "prompt,choice0,choice1,choice2\np,a,b,\n", []string{`{"choices":["a","b"],"prompt":"p"}`}},
		{"csv", "embed", nil, "id,text\n7,a\nx,\xff\n", []string{`"a"`, "!not valid UTF-8"}},
		{"csv", "embed", nil, "", nil},
	} {
		r, err := NewReader(strings.NewReader(c.in), c.format, c.task, c.columns)
		if err != nil {
			t.Fatalf("%s %s: %v", c.format, c.task, err)
		}
		for i, want := range c.want {
			rec, err := r.Next()
			if err != nil || rec.Number != i+1 {
				t.Fatalf("%s %q: record %d: %+v, %v", c.format, c.in, i, rec, err)
			}
			if part, bad := strings.CutPrefix(want, "!"); bad {
				if rec.Err == nil || !strings.Contains(rec.Err.Error(), part) {
					t.Errorf("%s %q: record %d: %v, want %q", c.format, c.in, i, rec.Err, part)
				}
			} else if rec.Err != nil || string(rec.Input) != want {
				t.Errorf("%s %q: record %d: %s, %v, want %s", c.format, c.in, i, rec.Input, rec.Err, want)
			}
		}
		if rec, err := r.Next(); err != io.EOF {
			t.Errorf("%s %q: %+v, %v after the last record", c.format, c.in, rec, err)
		}
	}
	for _, c := range []struct {
		format, task, header, field, want string
	}{
		{"txt", "answer", "", "", "question and context"},
		{"xml", "embed", "", "", `"xml"`},
		{"csv", "embed", "txt\n", "", `"text" (did you mean "txt"?)`},
		{"csv", "choose", "prompt\n", "", `"choices"`},
		{"jsonl", "embed", "", "context", `"context"`},
	} {
		columns := map[string]string{}
		if c.field != "" {
			columns[c.field] = "x"
		}
		if _, err := NewReader(strings.NewReader(c.header), c.format, c.task, columns); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestLongLine: a line without end costs one record, not the memory.
func TestLongLine(t *testing.T) {
	in := io.MultiReader(strings.NewReader("a\n"), io.LimitReader(endless{}, maxRecord+10), strings.NewReader("\nb\n"))
	r, err := NewReader(in, "txt", "embed", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`"a"`, "", `"b"`} {
		rec, err := r.Next()
		if err != nil || (want == "") != (rec.Err != nil) || string(rec.Input) != want {
			t.Errorf("record %d: %.20s, %v, %v", i, rec.Input, rec.Err, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
