package kernel_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/kernel"
)

// This file owns the properties that hold for every layout; kernel_test.go has the known ones.

// TestLayoutErrorSentences: what is wrong with a layout, word for word.
func TestLayoutErrorSentences(t *testing.T) {
	for _, c := range []struct{ layout, want string }{
		{"", `layout is empty`},
		{"[n]k", `layout "[n]k": expected "[" at "k"`},
		{"[]", `layout "[]": expected "[" at "[]"`},
		{"[4]", `layout "[4]": dimension "4" is not a letter`},
		{"[n/x]", `layout "[n/x]": factor "n/x": size must be in 1..65536`},
		{"[n/65537]", `layout "[n/65537]": factor "n/65537": size must be in 1..65536`},
		{"[n][n]", `layout "[n][n]": dimension "n" has two outermost factors`},
		{"[n4][n/4]", `layout "[n4][n/4]": dimension "n": an inner factor precedes the outermost`},
		{"[n/8][n4]", `layout "[n/8][n4]": dimension "n": inner factors multiply to 4, want 8`},
		{"[n][k4]", `layout "[n][k4]": dimension "k" has no outermost factor`},
	} {
		if _, err := kernel.Layout(c.layout).Dims(); err == nil || err.Error() != c.want {
			t.Errorf("layout %q: the error is %v, want %s", c.layout, err, c.want)
		}
	}
}

func TestPadded(t *testing.T) {
	for _, c := range []struct {
		layout      kernel.Layout
		shape, want []int
	}{
		{kernel.RowMajor, []int{3, 5}, []int{3, 5}},
		{kernel.PanelF32, []int{1, 5}, []int{32, 5}},
		{kernel.PanelBF16, []int{33, 33}, []int{64, 64}},
		{kernel.PadVector, []int{32}, []int{32}},
		{kernel.Vector, []int{0}, []int{0}},
		{"[k/4][n][k2][k2]", []int{5, 3}, []int{8, 3}}, // shapes are in the order of Dims: k, n
	} {
		if got := c.layout.Padded(c.shape...); !slices.Equal(got, c.want) {
			t.Errorf("%s pads %v to %v, want %v", c.layout, c.shape, got, c.want)
		}
	}
}

// checkLayout: the places of the elements are all different and within Len, Offsets are the places
// where Pack puts them, Unpack brings them back, and what is between is zero.
func checkLayout(t *testing.T, l kernel.Layout, shape ...int) {
	t.Helper()
	n := 1
	for _, d := range shape {
		n *= d
	}
	src := make([]int, n)
	for i := range src {
		src[i] = i + 1
	}
	packed := kernel.Pack(l, src, shape...)
	if len(packed) != l.Len(shape...) {
		t.Fatalf("%s of %v: packed into %d elements, Len is %d", l, shape, len(packed), l.Len(shape...))
	}
	if !slices.Equal(kernel.Unpack(l, packed, shape...), src) {
		t.Fatalf("%s of %v: Unpack does not bring back what Pack packed", l, shape)
	}
	index := make([]int, len(shape))
	for i := range src {
		rest, at := i, 0
		for d := len(shape) - 1; d >= 0; d-- {
			index[d], rest = rest%shape[d], rest/shape[d]
			at += l.Offsets(d, shape...)[index[d]]
		}
		if packed[at] != src[i] {
			t.Fatalf("%s of %v: element %v is not at %d, where Offsets has it", l, shape, index, at)
		}
		packed[at] = 0
	}
	if i := slices.IndexFunc(packed, func(x int) bool { return x != 0 }); i >= 0 {
		t.Fatalf("%s of %v: the padding at %d is not zero", l, shape, i)
	}
}

func TestLayoutProperties(t *testing.T) {
	for _, l := range []kernel.Layout{kernel.RowMajor, kernel.PanelF32, kernel.PanelBF16, "[k][n]", "[k/4][n/3][k2][n3][k2]"} {
		for _, shape := range [][]int{{1, 1}, {3, 5}, {32, 32}, {33, 31}, {64, 7}} {
			checkLayout(t, l, shape...)
		}
	}
	for _, n := range []int{1, 31, 32, 33} {
		checkLayout(t, kernel.Vector, n)
		checkLayout(t, kernel.PadVector, n)
	}
}

func TestLayoutMisusePanics(t *testing.T) {
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), `layout "[n][k]" for shape [3]`) {
			t.Errorf("a shape of another rank: %v", r)
		}
	}()
	kernel.RowMajor.Padded(3)
}

// FuzzLayout: Dims does not panic, and a layout that it accepts has the properties of all.
func FuzzLayout(f *testing.F) {
	for _, l := range []kernel.Layout{kernel.RowMajor, kernel.PanelF32, kernel.PanelBF16, kernel.Vector, kernel.PadVector, "[k/4][n/3][k2][n3][k2]", "[n4][k]"} {
		f.Add(string(l), uint8(3), uint8(5))
	}
	f.Fuzz(func(t *testing.T, text string, a, b uint8) {
		l := kernel.Layout(text)
		dims, err := l.Dims()
		if err != nil || len(dims) > 3 {
			return
		}
		shape := []int{int(a) % 40, int(b) % 40, 2}[:len(dims)]
		padded := 1
		for _, d := range l.Padded(shape...) {
			if padded *= d; padded > 1<<16 {
				return // too slow to look at element by element
			}
		}
		checkLayout(t, l, shape...)
	})
}
