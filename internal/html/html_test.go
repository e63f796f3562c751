package html

import (
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/models"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// compile returns the page of a configuration.
func compile(t *testing.T, c bert.Config) Page {
	t.Helper()
	g, err := bert.Build(c, bert.MaskedLM)
	if err != nil {
		t.Fatal(err)
	}
	page := Page{Title: "日本語 <model>", Version: "v1", Stages: []Stage{{Name: "build", Doc: "The graph of the configuration.", Text: g.String()}}}
	page.Program, err = passes.Run(g, passes.Options{
		Math: ir.BF16, MaxPositions: c.MaxPositionEmbeddings,
		Observe: func(p passes.Pass, s *passes.State, took time.Duration) {
			page.Stages = append(page.Stages, Stage{p.Name, p.Doc, s.String(), took})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func tiny(t *testing.T) bert.Config {
	t.Helper()
	m, err := pipeline.OpenFS(models.Tiny, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return m.Config
}

func render(t *testing.T, page Page) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, page); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// element is one element of a page, with the text of everything in it.
type element struct {
	name string
	attr map[string]string
	text string
	from int // where its text begins in that of the page
}

// parse reads a page, which is well-formed apart from its script and style, and checks that
// nothing is loaded or run but what the page itself brings.
func parse(t *testing.T, page string) []*element {
	t.Helper()
	for _, tag := range []string{"script", "style"} {
		if n := strings.Count(page, "<"+tag); n != 1 {
			t.Errorf("the page has %d %s elements, want 1", n, tag)
		}
		page = regexp.MustCompile("(?s)<"+tag+">.*</"+tag+">").ReplaceAllString(page, "")
	}
	var all, open []*element
	var text strings.Builder
	d := xml.NewDecoder(strings.NewReader(page))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch x := tok.(type) {
		case xml.StartElement:
			e := &element{name: x.Name.Local, attr: map[string]string{}, from: text.Len()}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" && !strings.HasPrefix(a.Value, "#stage") {
					t.Errorf("<%s> has attribute %s=%q", e.name, a.Name.Local, a.Value)
				}
			}
			all, open = append(all, e), append(open, e)
		case xml.CharData:
			text.Write(x)
		case xml.EndElement:
			last := open[len(open)-1]
			last.text = text.String()[last.from:]
			open = open[:len(open)-1]
		}
	}
}

func TestWrite(t *testing.T) {
	page := compile(t, tiny(t))
	elements := parse(t, render(t, page))
	lives := 0
	for _, l := range program.Lives(page.Program) {
		lives += len(l)
	}
	counts := map[string]int{}
	ids := map[string]bool{}
	stage := 0
	for _, e := range elements {
		counts[e.name+"."+strings.Fields(e.attr["class"] + " -")[0]]++
		if id := e.attr["id"]; id != "" {
			if ids[id] {
				t.Errorf("two elements have id %q", id)
			}
			ids[id] = true
		}
		switch e.attr["class"] {
		case "code":
			if got := strings.TrimPrefix(e.text, "\n"); got != page.Stages[stage].Text {
				t.Errorf("column %d does not have the text of stage %s", stage, page.Stages[stage].Name)
			}
			stage++
		case "doc":
			if e.text != page.Stages[stage].Doc {
				t.Errorf("column %d has doc %q", stage, e.text)
			}
		}
	}
	for what, want := range map[string]int{
		"div.code": len(page.Stages), "rect.life": lives, "rect.step": len(page.Program.Steps) + 1, "button.name": len(page.Program.Buffers),
	} {
		if counts[what] != want {
			t.Errorf("the page has %d of %s, want %d", counts[what], what, want)
		}
	}
	for _, e := range elements {
		if c := e.attr["aria-controls"] + e.attr["aria-labelledby"]; c != "" && !ids[c] {
			t.Errorf("<%s> refers to %q, which is not on the page", e.name, c)
		}
	}
	if elements[0].name != "html" || elements[0].attr["lang"] == "" {
		t.Error("the page does not state its language")
	}
}

// TestMarks: a name that is kept across stages is one element wherever it occurs.
func TestMarks(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"  %layer.0.qkv = linear %x, %w {out=f32} : f32[T,256]", "  %<b>layer.0.qkv</b> = linear %<b>x</b>, %<b>w</b> {out=f32} : f32[T,256]"},
		{"  %g = group gemm @layer.0.qkv(%x) {", "  %<b>g</b> = group gemm @<b>layer.0.qkv</b>(%<b>x</b>) {"},
		{"    %a = add %p0, %p12 : f32[T,1]", "    %<b>a</b> = add %p0, %p12 : f32[T,1]"},
		{`  %w = weight "a.<b>" : f32[1]`, "  %<b>w</b> = weight &#34;<b>a.&lt;b&gt;</b>&#34; : f32[1]"},
		{"  step layer.0.qkv = qkv src=x dst=y", "  step <b>layer.0.qkv</b> = <b>qkv</b> src=<b>x</b> dst=<b>y</b>"},
		{"  buffer x = temp f32[T,1] @0", "  buffer <b>x</b> = temp f32[T,1] @0"},
		{"    part a.weight [1,2]", "    part <b>a.weight</b> [1,2]"},
		{"step", "step"},
		{"", ""},
	} {
		code, _, _ := mark(c.line+"\n", c.line+"\n")
		if want := "<div>" + c.want + "</div>\n"; string(code) != want {
			t.Errorf("%q is marked as\n%s\nwant\n%s", c.line, code, want)
		}
	}
	code, added, removed := mark("a\nb\nb\n", "b\nc\n")
	if want := "<div class=\"new\">a</div>\n<div>b</div>\n<div class=\"new\">b</div>\n"; string(code) != want || added != 2 || removed != 1 {
		t.Errorf("changes are marked as\n%s with +%d −%d", code, added, removed)
	}
}

// TestHostile puts text that tries to leave its place into every field.
func TestHostile(t *testing.T) {
	const evil = `x"'></div></b></title></style><script>alert(1)</script><img src=x onerror=alert(1)><!--` + "`${1}\\"
	buffer := ir.MakeType(ir.F32, ir.Sym(evil), ir.Const(4))
	page := Page{Title: evil, Version: evil, Stages: []Stage{
		{Name: evil, Doc: evil, Text: "%" + evil + "\n\"" + evil + "\"\nstep a = b c=" + evil},
		{Name: evil, Doc: evil, Text: "part " + evil + "\n", Took: time.Hour},
	}, Program: &program.Program{
		Buffers: []program.Buffer{{Name: evil, Role: evil, Type: buffer, Offset: 0}},
		Steps:   []program.Step{{Name: evil, Kernel: evil, Args: []program.Arg{{Operand: program.Dst, Name: evil}}}},
	}}
	titles := 0
	for _, e := range parse(t, render(t, page)) {
		switch e.name {
		case "img":
			t.Error("a name became an element")
		case "h1", "h2":
			titles++
			if e.text != evil {
				t.Errorf("<%s> has text %q", e.name, e.text)
			}
		}
	}
	if titles != 3 {
		t.Errorf("%d titles survive, want 3", titles)
	}
}

// TestStopped: a compile that was stopped before the program has no chart, and an unplanned
// program or one without steps is no error.
func TestStopped(t *testing.T) {
	page := compile(t, tiny(t))
	planned := *page.Program
	for _, p := range []*program.Program{nil, {}, {Buffers: []program.Buffer{{Name: "x", Type: ir.MakeType(ir.F32, ir.Sym("T")), Offset: -1}}}} {
		page.Program = p
		for _, e := range parse(t, render(t, page)) {
			if e.name == "figure" {
				t.Error("there is a chart of no memory")
			}
		}
	}
	planned.Steps = nil
	page.Program = &planned
	parse(t, render(t, page))
	parse(t, render(t, Page{}))
}

// TestDeep: the page of 48 layers stays small.
func TestDeep(t *testing.T) {
	c := tiny(t)
	c.NumHiddenLayers = 48
	page := compile(t, c)
	text := render(t, page)
	if len(text) > 4<<20 {
		t.Errorf("the page of %d layers has %d bytes", c.NumHiddenLayers, len(text))
	}
	if n := strings.Count(text, `<section class="stage`); n != len(page.Stages) {
		t.Errorf("the page has %d columns, want %d", n, len(page.Stages))
	}
	if !strings.Contains(text, fmt.Sprintf("<b>layer.%d.down</b>", 47)) {
		t.Error("the last layer is missing")
	}
}

// TestDeterministic: equal pages are equal bytes.
func TestDeterministic(t *testing.T) {
	page := compile(t, tiny(t))
	first, second := render(t, page), render(t, page)
	if first != second {
		t.Error("two pages of one compile differ")
	}
}
