package quant

// This file owns the text form of a Config, which people read and change. Each line is one fact:
//
//	# a comment
//	model 4 layers, hidden 192, …
//	note the error of the last hidden state is 0.0181
//	matmul layer.0.qkv int8 error=0.0109 12 % of the squared error
//	smooth layer.0.qkv 1.03 0.871 …
//	shift layer.0.qkv -2.1e-05 0.00013 …
//
// The precision is int8, bf16 or default. The error and the words after it are for the reader.

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// header is what String begins with.
const header = `# How the matmuls of a model are quantised; bertc compile --dtype int8 --calibration reads it.
# error: of the matmul's result with both factors of 8 bits, ‖a−b‖/‖b‖. To change one, write int8 or bf16.
`

// unset is how the text calls the precision "".
const unset = "default"

// smoothKey and shiftKey begin the lines of vectors.
const (
	smoothKey = "smooth"
	shiftKey  = "shift"
)

// errorKey begins the error of a matmul.
const errorKey = "error="

// maxLine bounds a line of the text: a vector of a hundred thousand factors.
const maxLine = 1 << 21

// String returns the text of c: matmuls in the order of layers, smoothing vectors after them.
func (c *Config) String() string {
	var b strings.Builder
	b.WriteString(header)
	if c == nil {
		return b.String()
	}
	if c.Model != "" {
		fmt.Fprintf(&b, "model %s\n", c.Model)
	}
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "note %s\n", n)
	}
	names := c.Names()
	slices.SortStableFunc(names, byNumber)
	for _, n := range names {
		l := c.Linears[n]
		fmt.Fprintf(&b, "matmul %s %s", n, cmp.Or(string(l.Precision), unset))
		if l.Error > 0 {
			fmt.Fprintf(&b, " %s%g", errorKey, l.Error)
		}
		if l.Reason != "" {
			b.WriteString(" " + l.Reason)
		}
		b.WriteByte('\n')
	}
	for _, n := range names {
		l := c.Linears[n]
		for _, v := range []struct {
			key    string
			vector []float32
		}{{smoothKey, l.Smooth}, {shiftKey, l.Shift}} {
			if v.vector == nil {
				continue
			}
			b.WriteString(v.key + " " + n)
			for _, x := range v.vector {
				b.WriteString(" " + strconv.FormatFloat(float64(x), 'g', -1, 32))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// byNumber orders names whose numbers differ by the numbers: layer.2 comes before layer.10.
func byNumber(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, errM := strconv.Atoi(x[i])
		n, errN := strconv.Atoi(y[i])
		if errM == nil && errN == nil && m != n {
			return cmp.Compare(m, n)
		}
		if x[i] != y[i] {
			return 0
		}
	}
	return 0
}

// Parse reads what String writes. Errors begin with the number of the line.
func Parse(r io.Reader) (*Config, error) {
	c := &Config{Linears: map[string]Linear{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, rest, _ := strings.Cut(line, " ")
		var err error
		switch rest = strings.TrimSpace(rest); key {
		case "model":
			if c.Model != "" {
				err = errors.New("a second model")
			}
			c.Model = rest
		case "note":
			c.Notes = append(c.Notes, rest)
		case "matmul":
			err = c.parseMatmul(rest)
		case smoothKey, shiftKey:
			err = c.parseVector(key, rest)
		default:
			err = fmt.Errorf("%.40q is not model, note, matmul, %s or %s", key, smoothKey, shiftKey)
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%d: the line is longer than %d bytes", n+1, maxLine)
	} else if err != nil {
		return nil, fmt.Errorf("%d: %w", n+1, err)
	}
	return c, nil
}

// parseMatmul reads "NAME PRECISION [error=E] [REASON]".
func (c *Config) parseMatmul(text string) error {
	name, rest, _ := strings.Cut(text, " ")
	precision, rest, _ := strings.Cut(rest, " ")
	if name == "" {
		return errors.New("a matmul without a name")
	}
	if _, ok := c.Linears[name]; ok {
		return fmt.Errorf("a second line for matmul %s", name)
	}
	l := Linear{Precision: Precision(precision)}
	switch l.Precision {
	case unset:
		l.Precision = ""
	case Int8, BF16:
	default:
		return fmt.Errorf("matmul %s: precision %.40q is not %s, %s or %s", name, precision, Int8, BF16, unset)
	}
	if e, ok := strings.CutPrefix(strings.TrimSpace(rest), errorKey); ok {
		e, rest, _ = strings.Cut(e, " ")
		var err error
		if l.Error, err = strconv.ParseFloat(e, 64); err != nil || !(l.Error >= 0) || math.IsInf(l.Error, 1) {
			return fmt.Errorf("matmul %s: error %.40q is not a number of 0 or more", name, e)
		}
	}
	if l.Reason = strings.TrimSpace(rest); strings.HasPrefix(l.Reason, errorKey) {
		return fmt.Errorf("matmul %s: a second error", name)
	}
	c.Linears[name] = l
	return nil
}

// parseVector reads "NAME NUMBER …", for a matmul that has a line above. Factors are positive.
func (c *Config) parseVector(key, text string) error {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return fmt.Errorf("%s without a matmul and its numbers", key)
	}
	name := fields[0]
	l, ok := c.Linears[name]
	to, what, legal := &l.Smooth, "a positive number", positive
	if key == shiftKey {
		to, what, legal = &l.Shift, "a number", finite
	}
	switch {
	case !ok:
		return fmt.Errorf("no line above is of matmul %s", name)
	case *to != nil:
		return fmt.Errorf("matmul %s has a line %s already", name, key)
	}
	for i, f := range fields[1:] {
		x, err := strconv.ParseFloat(f, 32)
		if err != nil || !legal(float32(x)) {
			return fmt.Errorf("matmul %s: number %d of %s is %.40q, not %s", name, i, key, f, what)
		}
		*to = append(*to, float32(x))
	}
	c.Linears[name] = l
	return nil
}
