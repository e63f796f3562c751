package bench

// This file owns the roofline plot.

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// Point is a kernel on a roofline plot.
type Point struct {
	Name      string
	Intensity float64 // operations for each byte of weights
	GFLOPS    float64
}

// The plot's size and margins, in SVG units.
const (
	plotWidth, plotHeight   = 760.0, 480.0
	plotLeft, plotBottom    = 70.0, 430.0
	plotRight, plotTop      = 560.0, 30.0
	labelColumn, labelStart = 580.0, 50.0
)

// WriteRoofline draws points under the ceilings of the machine (Williams, Waterman and Patterson,
// "Roofline", CACM 52(4), 2009): the memory's bandwidth times the intensity, and the rate of the
// multiply-accumulate instruction. Both axes are logarithmic.
func WriteRoofline(w io.Writer, title string, bandwidth, rate float64, points []Point) error {
	loX, hiX, loY := 1.0, 1.0, rate
	for _, p := range points {
		loX, hiX, loY = min(loX, p.Intensity/2), max(hiX, p.Intensity*2), min(loY, p.GFLOPS/2)
	}
	hiX, hiY := max(hiX, 4*rate/bandwidth), rate*2
	x := func(v float64) float64 {
		return plotLeft + (plotRight-plotLeft)*math.Log(v/loX)/math.Log(hiX/loX)
	}
	y := func(v float64) float64 {
		return plotBottom - (plotBottom-plotTop)*math.Log(v/loY)/math.Log(hiY/loY)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	b.WriteString(`<style>svg{background:#fff;color:#222}@media(prefers-color-scheme:dark){svg{background:#111;color:#ddd}}text{fill:currentColor}line,polyline{stroke:currentColor;fill:none}</style>` + "\n")
	fmt.Fprintf(&b, `<text x="%g" y="18" font-size="14">%s</text>`+"\n", plotLeft, html.EscapeString(title))
	for v := math.Pow(10, math.Ceil(math.Log10(loX))); v < hiX; v *= 10 {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%g" x2="%.1f" y2="%g" opacity=".15"/><text x="%.1f" y="%g" text-anchor="middle">%g</text>`+"\n", x(v), plotTop, x(v), plotBottom, x(v), plotBottom+16, v)
	}
	for v := math.Pow(10, math.Ceil(math.Log10(loY))); v < hiY; v *= 10 {
		fmt.Fprintf(&b, `<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" opacity=".15"/><text x="%g" y="%.1f" text-anchor="end">%g</text>`+"\n", plotLeft, y(v), plotRight, y(v), plotLeft-6, y(v)+4, v)
	}
	knee := rate / bandwidth
	fmt.Fprintf(&b, `<polyline stroke-width="2" points="%.1f,%.1f %.1f,%.1f %.1f,%.1f"/>`+"\n", x(loX), y(max(loY, bandwidth*loX)), x(knee), y(rate), x(hiX), y(rate))
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle">operations for each byte of weights</text>`+"\n", (plotLeft+plotRight)/2, plotBottom+36)
	fmt.Fprintf(&b, `<text transform="translate(16,%g) rotate(-90)" text-anchor="middle">GFLOP/s</text>`+"\n", (plotTop+plotBottom)/2)
	fmt.Fprintf(&b, `<text x="%g" y="%g">ceilings: %.0f GFLOP/s, %.1f GB/s</text>`+"\n", labelColumn-10, plotTop+4, rate, bandwidth)
	for i, p := range points {
		hue := 360 * i / max(1, len(points))
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="5" fill="hsl(%d 65%% 50%%)"><title>%s: %.1f GFLOP/s</title></circle>`+"\n", x(p.Intensity), y(p.GFLOPS), hue, html.EscapeString(p.Name), p.GFLOPS)
		fmt.Fprintf(&b, `<circle cx="%g" cy="%.1f" r="5" fill="hsl(%d 65%% 50%%)"/><text x="%g" y="%.1f">%s</text>`+"\n", labelColumn, labelStart+18*float64(i), hue, labelColumn+10, labelStart+18*float64(i)+4, html.EscapeString(p.Name))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Points returns the results that have weights as points of a roofline.
func Points(results []Result) []Point {
	var points []Point
	for _, r := range results {
		if r.bytes > 0 && r.GFLOPS > 0 {
			points = append(points, Point{Name: r.Shape, Intensity: 1e9 * r.GFLOP / r.bytes, GFLOPS: r.GFLOPS})
		}
	}
	return points
}
