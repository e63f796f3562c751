package html

import (
	"fmt"
	"regexp"

	"github.com/bertc/bertc/program"
)

// This file owns the chart of buffer lifetimes: one area for each symbol that counts rows, steps
// from left to right, bytes per row from top to bottom.

// Sizes of the chart, in the units of its SVG.
const (
	chartWidth  = 1100 // that the steps should fill
	chartHeight = 200  // of the tallest stack of buffers
	minStep     = 4
	maxStep     = 48
	chartTop    = 30 // room for the axis of steps, above y = 0
	minBar      = 5  // that a small buffer can still be seen and hit
	labelGap    = 64 // between two labels of the step axis
)

type area struct {
	Symbol        string
	Bytes         int // per row
	Width, Height float64
	Step          float64 // width of one step
	Ticks         []tick  // on the axis of steps
	Steps         []bar   // one for each step
	Bars          []bar   // one for each lifetime
	Buffers       []buffer
}

type tick struct {
	X    float64
	Text string
}

type bar struct {
	Name, Label, Title string
	Color              int
	X, Y, W, H         float64
}

type buffer struct {
	Name, Role, Type string
	Color            int
	Bytes, Offset    int
	Lives            int
}

// colors is the number of colours that page.css has.
const colors = 8

// areas lays out the charts of p, none when memory is not planned.
func areas(p *program.Program) []area {
	lives := program.Lives(p)
	var out []area
	index := map[string]int{}
	for i, b := range p.Buffers {
		if b.Offset < 0 {
			return nil
		}
		sym := b.Symbol()
		if _, ok := index[sym]; !ok {
			index[sym] = len(out)
			out = append(out, area{Symbol: sym, Bytes: p.AreaBytes(sym, program.RowAlign) / program.RowAlign})
		}
		a := &out[index[sym]]
		a.Buffers = append(a.Buffers, buffer{
			Name: b.Name, Role: string(b.Role), Type: b.Type.String(), Color: i % colors,
			Bytes: b.RowBytes(), Offset: b.Offset, Lives: len(lives[i]),
		})
	}
	for i := range out {
		out[i].layout(p, lives)
	}
	return out
}

// layout places the steps that have to do with the area, and the lifetimes. The time before the
// first of these steps has a column of its own, and so has the time after the last.
func (a *area) layout(p *program.Program, lives [][]program.Life) {
	from, to := len(p.Steps), -1
	for n, s := range p.Steps {
		for _, arg := range s.Args {
			if b := p.Buffer(arg.Name); arg.Operand.IsBuffer() && b != nil && b.Symbol() == a.Symbol {
				from, to = min(from, n), max(to, n)
			}
		}
	}
	if from > to {
		from, to = 0, -1
	}
	a.Step = min(max(float64(chartWidth)/float64(to-from+3), minStep), maxStep)
	a.Width = a.Step * float64(to-from+3)
	x := func(n int) float64 { return a.Step * float64(min(max(n, from-1), to+1)-from+1) }
	for n := from; n <= to; n++ {
		s := p.Steps[n]
		a.Steps = append(a.Steps, bar{
			Name: s.Name, Title: fmt.Sprintf("step %d: %s = %s", n, s.Name, s.Kernel), X: x(n), W: a.Step, Color: kernelIndex(p, s.Kernel) % colors,
		})
		if text := layer(p, n); text != "" && (len(a.Ticks) == 0 || x(n)-a.Ticks[len(a.Ticks)-1].X >= labelGap) {
			a.Ticks = append(a.Ticks, tick{x(n), text})
		}
	}
	scale := chartHeight / float64(max(a.Bytes, 1))
	for i, b := range p.Buffers {
		if b.Symbol() != a.Symbol {
			continue
		}
		y, h := scale*float64(b.Offset), max(scale*float64(b.RowBytes()), minBar)
		a.Height = max(a.Height, y+h)
		for _, l := range lives[i] {
			r := bar{Name: b.Name, X: x(l.First), Y: y, W: x(l.Last) + a.Step - x(l.First), H: h, Color: i % colors,
				Title: fmt.Sprintf("%s: %s %s, %d bytes a row at offset %d, %s", b.Name, b.Role, b.Type, b.RowBytes(), b.Offset, span(p, l))}
			if r.W > 7*float64(len(b.Name)+1) && h >= 12 {
				r.Label = b.Name
			}
			a.Bars = append(a.Bars, r)
		}
	}
	a.Height += chartTop
}

// span names the steps of a lifetime.
func span(p *program.Program, l program.Life) string {
	from, to := "from the caller", "to the caller"
	if l.First >= 0 {
		from = "from " + p.Steps[l.First].Name
	}
	switch {
	case l.Last < 0:
		to = "never read"
	case l.Last < len(p.Steps):
		to = "to " + p.Steps[l.Last].Name
	}
	return from + " " + to
}

func kernelIndex(p *program.Program, name string) int {
	for i, k := range p.Kernels {
		if k.Name == name {
			return i
		}
	}
	return 0
}

var layerName = regexp.MustCompile(`^layer\.\d+`)

// layer returns the layer that begins with step n, or "".
func layer(p *program.Program, n int) string {
	l := layerName.FindString(p.Steps[n].Name)
	if n > 0 && l == layerName.FindString(p.Steps[n-1].Name) {
		return ""
	}
	return l
}
