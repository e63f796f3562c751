package html

import (
	"html"
	"html/template"
	"regexp"
	"strings"
)

// This file owns the marking of a stage's text: each line is one element, each name in it one
// more, and a line that the stage before does not have is marked as new.

// names finds the names in the text of a graph: values (%name), group labels (@name) and names of
// inputs and checkpoint tensors ("name").
var names = regexp.MustCompile(`[%@]([A-Za-z_][A-Za-z0-9_.]*)|"([^"\\]+)"`)

// parameter matches names that mean something else in every group.
var parameter = regexp.MustCompile(`^p[0-9]+$`)

// mark returns the HTML of text, and how many lines of it are not in before and the other way round.
func mark(text, before string) (code template.HTML, added, removed int) {
	had := map[string]int{}
	for line := range strings.Lines(before) {
		had[line]++
		removed++
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case had[line] > 0:
			had[line]--
			removed--
			b.WriteString("<div>")
		default:
			added++
			b.WriteString(`<div class="new">`)
		}
		at := 0
		line = strings.TrimSuffix(line, "\n")
		for _, span := range spans(line) {
			b.WriteString(html.EscapeString(line[at:span[0]]))
			b.WriteString("<b>" + html.EscapeString(line[span[0]:span[1]]) + "</b>")
			at = span[1]
		}
		b.WriteString(html.EscapeString(line[at:]) + "</div>\n")
	}
	return template.HTML(b.String()), added, removed
}

// spans returns where the names of a line are.
func spans(line string) [][2]int {
	if s := programSpans(line); s != nil {
		return s
	}
	var out [][2]int
	for _, m := range names.FindAllStringSubmatchIndex(line, -1) {
		from, to := m[2], m[3]
		if from < 0 {
			from, to = m[4], m[5]
		}
		if !parameter.MatchString(line[from:to]) {
			out = append(out, [2]int{from, to})
		}
	}
	return out
}

// programSpans is spans for the statements of a program, nil for any other line.
func programSpans(line string) [][2]int {
	words := fields(line)
	if len(words) < 2 {
		return nil
	}
	switch line[words[0][0]:words[0][1]] {
	case "kernel", "weight", "buffer", "part":
		return words[1:2]
	case "step":
		if len(words) < 4 {
			return words[1:2]
		}
		out := [][2]int{words[1], words[3]}
		for _, w := range words[4:] {
			if i := strings.IndexByte(line[w[0]:w[1]], '='); i >= 0 && w[0]+i+1 < w[1] {
				out = append(out, [2]int{w[0] + i + 1, w[1]})
			}
		}
		return out
	}
	return nil
}

// fields is strings.Fields for places instead of words.
func fields(line string) [][2]int {
	var out [][2]int
	for i := 0; i < len(line); {
		if line[i] == ' ' {
			i++
			continue
		}
		end := i
		for end < len(line) && line[end] != ' ' {
			end++
		}
		out = append(out, [2]int{i, end})
		i = end
	}
	return out
}
