package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/models"
)

func openTiny(t *testing.T) *pipeline.Model {
	t.Helper()
	m, err := pipeline.OpenFS(models.Tiny, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "texts")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const lines = "私は学校に行きます。\n\n机の上に本があります。\n彼女は歌が上手だ。\n"

// TestRun compares packages with portable kernels: bf16 with f32, and f32 with itself.
func TestRun(t *testing.T) {
	m := openTiny(t)
	texts, err := ReadTexts(m, write(t, lines), 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := map[ir.DType]string{}
	for _, math := range []ir.DType{ir.F32, ir.BF16} {
		dir[math] = filepath.Join(t.TempDir(), "model")
		if _, err := pipeline.Compile(t.Context(), m, pipeline.Options{Out: dir[math], Math: math, Architectures: []string{}}); err != nil {
			t.Fatal(err)
		}
	}
	done := 0
	o := Options{Model: m, A: Side{"f32", dir[ir.F32]}, B: Side{"bf16", dir[ir.BF16]}, Texts: texts, Progress: func(n int) { done = n }}
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
		// The table is bf16 in both; each rounding to bf16 is off by 2⁻⁹ at most, and a few add up.
		if exact := s.Name == "embed"; exact != (s.Error == 0) || s.Error > 0.02 || s.Centred < s.Error || s.Cosine < 0.999 {
			t.Errorf("%+v", s)
		}
	}
	if want := []string{"embed", "layer.0.down", "layer.1.down", "layer.2.down", "layer.3.down", "hidden", "logits"}; !slices.Equal(names, want) {
		t.Errorf("steps %v, want %v", names, want)
	}
	if a := r.Answers; r.Error() == 0 || r.B != "bf16 on portable" || r.Texts != 3 || done != 3 || a == nil || a.Of < 3 || a.Same < a.Of-1 {
		t.Errorf("the report is %+v, answers %+v", r, a)
	}
	var text, asJSON bytes.Buffer
	if r.WriteText(&text) != nil || !strings.Contains(text.String(), "\nlayer.3.down  ") || !strings.Contains(text.String(), "masked tokens") {
		t.Errorf("the text is\n%s", &text)
	}
	var back Report
	if r.WriteJSON(&asJSON) != nil || json.Unmarshal(asJSON.Bytes(), &back) != nil || back.Error() != r.Error() {
		t.Errorf("the JSON is %s", &asJSON)
	}
	o.A = o.B
	if r, err = Run(context.Background(), o); err != nil || r.Error() != 0 || r.Answers.Agreement != 1 {
		t.Errorf("a package against itself: %+v, %v", r, err)
	}
}

func TestMeasure(t *testing.T) {
	got, want := []float32{1, 2, 3, 5, 6, 6}, []float32{1, 2, 3, 4, 5, 6}
	var m measure
	m.add(got[:2], want[:2], 2) // the sums of batches are those of all
	m.add(got[2:], want[2:], 2)
	s := m.step("x")
	a, b := num.Float64s(got), num.Float64s(want)
	for _, c := range [][2]float64{{s.Error, num.RelL2(a, b)}, {s.Centred, num.RelL2Centred(a, b, 2)}, {s.Cosine, num.Cosine(a, b)}} {
		if math.Abs(c[0]-c[1]) > 1e-12 { // of sums of 6 numbers
			t.Errorf("%+v: %g instead of %g", s, c[0], c[1])
		}
	}
}

// TestNotFinite: rows of zeros are the same as themselves, and what no number says of NaN is null in JSON.
func TestNotFinite(t *testing.T) {
	var zero, nan measure
	zero.add([]float32{0, 0}, []float32{0, 0}, 2)
	nan.add([]float32{1, 2}, []float32{float32(math.NaN()), 2}, 2)
	var out bytes.Buffer
	if err := (Report{Steps: []Step{zero.step("zero"), nan.step("nan")}}).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	const want = `[{"step":"zero","error":0,"centred":0,"cosine":1},{"step":"nan","error":null,"centred":null,"cosine":null}]`
	if !strings.Contains(out.String(), want) {
		t.Errorf("got %s, want %s", &out, want)
	}
}

func TestAnswers(t *testing.T) {
	batch := pipeline.Request{Offsets: []int32{0, 2, 3}}
	want, got := []float32{1, 2, 5, 1, 0, 3}, []float32{2, 1, 5, 0, 0, 3}
	for _, c := range []struct {
		task    bert.Task
		problem bert.ProblemType
		want    *Answers
	}{
		{bert.MaskedLM, "", &Answers{2, 3, "masked tokens", 2. / 3}},
		{bert.TokenClassification, "", &Answers{2, 3, "tokens", 2. / 3}},
		{bert.SequenceClassification, bert.SingleLabel, &Answers{2, 3, "texts", 2. / 3}},
		{bert.SequenceClassification, bert.Regression, nil},
		{bert.MultipleChoice, "", nil},
		{bert.QuestionAnswering, "", &Answers{4, 4, "ends of answers", 1}},
	} {
		a := answers{task: c.task, problem: c.problem}
		a.add(batch, got, want, 2)
		if r := a.result(); (r == nil) != (c.want == nil) || r != nil && *r != *c.want {
			t.Errorf("%s %s: %+v, want %+v", c.task, c.problem, r, c.want)
		}
	}
}

func TestReadTexts(t *testing.T) {
	m := openTiny(t)
	all, err := ReadTexts(m, write(t, lines), 0)
	if err != nil {
		t.Fatal(err)
	}
	masked, err := ReadTexts(m, write(t, lines), 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range masked {
		if n := len(text.IDs) - 2; len(all) != 3 || len(all[i].Rows) != n || len(text.Rows) != (n-i+2)/3 || text.Rows[0] != int32(1+i) {
			t.Errorf("text %d of %d tokens has %d rows, of them masked %v", i, n, len(all[i].Rows), text.Rows)
		}
		for at, id := range all[i].IDs {
			if is := text.IDs[at] == 3; is != slices.Contains(text.Rows, int32(at)) || !is && text.IDs[at] != id {
				t.Errorf("text %d: token %d is %d, without masks %d", i, at, text.IDs[at], id)
			}
		}
	}
	for text, want := range map[string]string{"\n \n": "has no text", "a\n\xff": ":2: "} {
		if _, err := ReadTexts(m, write(t, text), 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v", text, err)
		}
	}
}

func TestBatches(t *testing.T) {
	text := func(n int) Text { return Text{IDs: make([]int32, n), Rows: []int32{1}} }
	b := Batches([]Text{text(300), text(200), text(13), text(500)})
	if len(b) != 3 || !slices.Equal(b[0].Offsets, []int32{0, 300, 500}) || !slices.Equal(b[0].Rows, []int32{1, 301}) ||
		b[0].Positions[300] != 0 || len(b[1].IDs) != 13 || len(b[2].IDs) != 500 {
		t.Errorf("%d batches", len(b))
	}
}
