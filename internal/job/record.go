package job

// This file owns records: what a task needs of one, and reading them from files.

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bertc/bertc/internal/nearest"
)

// Record is one record of the input. Err says why it has no Input.
type Record struct {
	Number int             // from 1
	ID     json.RawMessage // its field "id", or nil
	Input  json.RawMessage // what the task takes
	Err    error
}

// fields are the fields of a record by task; a task of one field takes the bare text. list is a
// field that has several texts.
var fields = map[string]struct {
	names    []string
	optional string
	list     string
}{
	"fill-mask": {names: []string{"text"}},
	"classify":  {names: []string{"text", "pair"}, optional: "pair"},
	"tag":       {names: []string{"text"}},
	"answer":    {names: []string{"question", "context"}},
	"choose":    {names: []string{"prompt", "choices"}, list: "choices"},
	"embed":     {names: []string{"text"}},
}

// Formats are the input formats, which are also the endings of file names.
var Formats = []string{"jsonl", "csv", "txt"}

// FormatOf returns the format of a file by its name: JSON lines unless the name says otherwise.
func FormatOf(path string) string {
	if ext := strings.TrimPrefix(filepath.Ext(path), "."); slices.Contains(Formats, ext) {
		return ext
	}
	return "jsonl"
}

// maxRecord bounds one line, so that a file without line ends does not fill the memory.
const maxRecord = 16 << 20

// Reader reads the records of one input.
type Reader struct {
	task    string
	columns map[string]string // field to the name it has in the input
	next    func() (Record, error)
	number  int
	counted *counter
}

// counter counts the bytes that have been read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// NewReader returns a reader of a format. columns gives fields other names in the input.
func NewReader(r io.Reader, format, task string, columns map[string]string) (*Reader, error) {
	f, ok := fields[task]
	if !ok {
		return nil, fmt.Errorf("task %q: unknown task", task)
	}
	for name := range columns {
		if !slices.Contains(f.names, name) {
			return nil, fmt.Errorf("field %q: task %s has the fields %s", name, task, strings.Join(f.names, ", "))
		}
	}
	in := &Reader{task: task, columns: columns, counted: &counter{r: r}}
	switch format {
	case "jsonl":
		in.next = in.lines(in.jsonLine)
	case "txt":
		if len(f.names) > 1 && f.optional == "" {
			return nil, fmt.Errorf("format txt: a record of task %s has the fields %s, lines of text have one", task, strings.Join(f.names, " and "))
		}
		in.next = in.lines(in.textLine)
	case "csv":
		return in, in.csv()
	default:
		return nil, fmt.Errorf("format %q: not supported (supported: %s)", format, strings.Join(Formats, ", "))
	}
	return in, nil
}

// Bytes returns how much of the input has been read.
func (r *Reader) Bytes() int64 { return r.counted.n }

// Next returns the next record, or io.EOF. An error is of the input, not of a record.
func (r *Reader) Next() (Record, error) {
	rec, err := r.next()
	if err != nil {
		return Record{}, err
	}
	r.number++
	rec.Number = r.number
	return rec, nil
}

// byteOrderMark is what editors and shells under Windows put before text.
const byteOrderMark = "\ufeff"

func (r *Reader) lines(parse func([]byte) Record) func() (Record, error) {
	in := bufio.NewReaderSize(r.counted, 1<<16)
	first := true
	return func() (Record, error) {
		var line []byte
		tooLong := false
		for {
			part, err := in.ReadSlice('\n')
			if len(line)+len(part) > maxRecord {
				tooLong, line = true, line[:0]
			}
			if !tooLong {
				line = append(line, part...)
			}
			if err == nil || err == io.EOF && (len(line) > 0 || tooLong) {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return Record{}, err
			}
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if first {
			line, first = bytes.TrimPrefix(line, []byte(byteOrderMark)), false
		}
		if tooLong {
			return Record{Err: fmt.Errorf("the line is longer than %d bytes", maxRecord)}, nil
		}
		if err := checkUTF8(line); err != nil {
			return Record{Err: err}, nil
		}
		return parse(line), nil
	}
}

// checkUTF8 comes before JSON is decoded, which would replace what is not valid.
func checkUTF8(b []byte) error {
	if utf8.Valid(b) {
		return nil
	}
	for at := 0; ; {
		c, n := utf8.DecodeRune(b[at:])
		if c == utf8.RuneError && n == 1 {
			return fmt.Errorf("the record is not valid UTF-8 at byte %d", at)
		}
		at += n
	}
}

// textLine takes a line as the first field of a record.
func (r *Reader) textLine(line []byte) Record {
	var input any = string(line)
	if names := fields[r.task].names; len(names) > 1 {
		input = map[string]any{names[0]: input}
	}
	raw, err := json.Marshal(input)
	return Record{Input: raw, Err: err}
}

func (r *Reader) jsonLine(line []byte) Record {
	if len(bytes.TrimSpace(line)) == 0 {
		return Record{Err: errors.New("the record is empty")}
	}
	var text string
	if len(fields[r.task].names) == 1 && json.Unmarshal(line, &text) == nil {
		return r.textLine([]byte(text))
	}
	var object map[string]json.RawMessage
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal(line, &object); errors.As(err, &other) {
		return Record{Err: fmt.Errorf("not a JSON object: found %s", other.Value)}
	} else if err != nil {
		return Record{Err: fmt.Errorf("not a JSON object: %v", err)}
	}
	return r.record(object["id"], object)
}

// column returns the name of a field in the input.
func (r *Reader) column(field string) string {
	if name := r.columns[field]; name != "" {
		return name
	}
	return field
}

// record makes the input of a task from the values of columns.
func (r *Reader) record(id json.RawMessage, values map[string]json.RawMessage) Record {
	f := fields[r.task]
	rec := Record{ID: id}
	input := map[string]json.RawMessage{}
	for _, name := range f.names {
		raw, ok := values[r.column(name)]
		if !ok || string(raw) == "null" {
			if name == f.optional {
				continue
			}
			rec.Err = fmt.Errorf("field %q is missing", r.column(name))
			return rec
		}
		var text string
		var list []string
		if name == f.list && json.Unmarshal(raw, &list) != nil {
			rec.Err = fmt.Errorf("field %q: expected a list of strings", r.column(name))
			return rec
		}
		if name != f.list && json.Unmarshal(raw, &text) != nil {
			rec.Err = fmt.Errorf("field %q: expected a string", r.column(name))
			return rec
		}
		input[name] = raw
	}
	if len(f.names) == 1 {
		rec.Input = input[f.names[0]]
		return rec
	}
	rec.Input, rec.Err = json.Marshal(input)
	return rec
}

// csv reads the header; every column is a field. The choices of a question are the columns whose
// names begin with the name of the field without its s.
func (r *Reader) csv() error {
	in := csv.NewReader(r.counted)
	in.FieldsPerRecord, in.LazyQuotes, in.ReuseRecord = -1, true, true
	first, err := in.Read()
	if err == io.EOF {
		r.next = func() (Record, error) { return Record{}, io.EOF }
		return nil
	}
	if err != nil {
		return fmt.Errorf("the header: %w", err)
	}
	header := slices.Clone(first)
	header[0] = strings.TrimPrefix(header[0], byteOrderMark)
	f := fields[r.task]
	for _, name := range f.names {
		column := r.column(name)
		stem := strings.TrimSuffix(column, "s")
		if slices.Contains(header, column) || name == f.optional && r.columns[name] == "" || name == f.list && slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, stem) }) {
			continue
		}
		message := fmt.Sprintf("the header has no column %q", column)
		if near := nearest.Name(column, header); near != "" {
			message += fmt.Sprintf(" (did you mean %q?)", near)
		}
		return errors.New(message)
	}
	r.next = func() (Record, error) {
		row, err := in.Read()
		if err == io.EOF {
			return Record{}, err
		}
		if err != nil {
			var parse *csv.ParseError
			if errors.As(err, &parse) {
				return Record{Err: err}, nil
			}
			return Record{}, err
		}
		for _, cell := range row {
			if err := checkUTF8([]byte(cell)); err != nil {
				return Record{Err: err}, nil
			}
		}
		return r.row(header, row), nil
	}
	return nil
}

func (r *Reader) row(header, row []string) Record {
	cells := map[string]json.RawMessage{}
	quote := func(s string) json.RawMessage { q, _ := json.Marshal(s); return q }
	for i, name := range header {
		if i < len(row) {
			cells[name] = quote(row[i])
		}
	}
	f := fields[r.task]
	if f.list != "" {
		column := r.column(f.list)
		var list []string
		for i, name := range header {
			if i < len(row) && row[i] != "" && strings.HasPrefix(name, strings.TrimSuffix(column, "s")) {
				list = append(list, row[i])
			}
		}
		cells[column], _ = json.Marshal(list)
	}
	id, ok := cells["id"]
	if n, err := strconv.Atoi(strings.Trim(string(id), `"`)); ok && err == nil {
		id = json.RawMessage(strconv.Itoa(n))
	}
	if column := r.column(f.optional); string(cells[column]) == `""` {
		delete(cells, column)
	}
	return r.record(id, cells)
}
