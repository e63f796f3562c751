// Package html writes one self-contained page that shows a whole compile: a column per stage, a
// name followed through all of them, the time of each pass, and the lifetimes of the buffers.
//
// It imports package program. The page loads nothing from elsewhere and works from a file, with a
// keyboard, without scripts, and in light and dark. Start reading at html.go; code.go marks the
// names in the text of a stage, memory.go lays out the chart, page.* are the page's assets.
package html

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/bertc/bertc/program"
)

// This file owns the page.

// Stage is one column: the text of the compile after a pass, or before the first.
type Stage struct {
	Name string // of the pass
	Doc  string // one paragraph
	Text string // of the graph or program
	Took time.Duration
}

// Page is everything that is shown.
type Page struct {
	Title   string
	Version string // of bertc
	Stages  []Stage
	Program *program.Program // nil when the compile stopped before it was made
}

//go:embed page.html.tmpl
var pageText string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// Write writes the page as UTF-8.
func Write(w io.Writer, page Page) error {
	v := view{Title: page.Title, Version: page.Version, CSS: template.CSS(pageCSS), JS: template.JS(pageJS)}
	slowest := time.Duration(1)
	for _, s := range page.Stages {
		slowest = max(slowest, s.Took)
	}
	before := ""
	for i, s := range page.Stages {
		code, added, removed := mark(s.Text, before)
		v.Stages = append(v.Stages, column{
			ID: fmt.Sprintf("stage%d", i), Name: s.Name, Doc: s.Doc, Code: code,
			Took: duration(s.Took), Share: 1000 * float64(s.Took) / float64(slowest),
			First: i == 0, Added: added, Removed: removed, Same: i > 0 && s.Text == before,
		})
		before = s.Text
	}
	if page.Program != nil {
		v.Areas = areas(page.Program)
	}
	if err := pageTemplate.Execute(w, v); err != nil {
		return fmt.Errorf("html: %w", err)
	}
	return nil
}

// view is what the template reads.
type view struct {
	Title, Version string
	CSS            template.CSS
	JS             template.JS
	Stages         []column
	Areas          []area
}

type column struct {
	ID, Name, Doc  string
	Code           template.HTML
	Took           string
	Share          float64 // of the slowest pass, in thousandths
	First          bool
	Same           bool // the text is that of the stage before
	Added, Removed int  // lines, against the stage before
}

// duration writes d with about three digits, and nothing for a stage that is not timed.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
