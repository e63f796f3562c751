package job

// This file owns the job: chunks of records in, lines of results out, and going on after an
// interruption. There is one line for each record, so the number of whole lines says where to go
// on; a line that was cut is dropped.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/bertc/bertc/internal/staging"
)

// Line is one line of the output: a record's number and id, and its result or its error.
type Line struct {
	Record int             `json:"record"`
	ID     json.RawMessage `json:"id,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Result is what a task makes of one record.
type Result struct {
	JSON json.RawMessage
	Err  error
}

// chunkRecords and chunkBytes bound what is handed on at a time, which is also what an interrupted
// job computes again.
const (
	chunkRecords = 256
	chunkBytes   = 1 << 20
)

// Job is a task over an input.
type Job struct {
	In *Reader
	// Call runs the task on a chunk of inputs and returns a result for each.
	Call func(inputs []json.RawMessage) ([]Result, error)
	// Progress, when not nil, is called after every chunk.
	Progress func(Summary)
}

// Summary counts what a job has done, what was there before an interruption included.
type Summary struct {
	Records int // lines of the output
	Failed  int // lines with an error
	Before  int // lines that were there
	Bytes   int64

	// FirstFailed is the number of the first line with an error, and Error what it says.
	FirstFailed int
	Error       string
}

// fail counts a line with an error.
func (s *Summary) fail(line Line) {
	if s.Failed == 0 {
		s.FirstFailed, s.Error = line.Record, line.Error
	}
	s.Failed++
}

// Run reads the records that follow the first s.Records ones and writes their lines to w. An
// error is of the whole job; records that fail have a line.
func (j Job) Run(ctx context.Context, w io.Writer, s Summary) (Summary, error) {
	for range s.Records {
		if _, err := j.In.Next(); err != nil {
			if err == io.EOF {
				err = fmt.Errorf("the input has fewer records than the %d that are done: it is not the same", s.Records)
			}
			return s, err
		}
	}
	s.Before = s.Records
	for {
		chunk, end, err := j.chunk()
		if err != nil {
			return s, err
		}
		if err := ctx.Err(); err != nil {
			return s, err
		}
		lines, err := j.lines(chunk, &s)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err() // it is what stopped the package
			}
			return s, err
		}
		if _, err := w.Write(lines); err != nil {
			return s, err
		}
		s.Records += len(chunk)
		s.Bytes = j.In.Bytes()
		if j.Progress != nil {
			j.Progress(s)
		}
		if end {
			return s, nil
		}
	}
}

// chunk reads the next records. end says that there are no more.
func (j Job) chunk() (chunk []Record, end bool, err error) {
	size := 0
	for len(chunk) < chunkRecords && size < chunkBytes {
		rec, err := j.In.Next()
		if err == io.EOF {
			return chunk, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		chunk = append(chunk, rec)
		size += len(rec.Input)
	}
	return chunk, false, nil
}

// lines computes a chunk and returns its lines. It counts those with an error.
func (j Job) lines(chunk []Record, s *Summary) (lines []byte, err error) {
	var inputs []json.RawMessage
	for _, rec := range chunk {
		if rec.Err == nil {
			inputs = append(inputs, rec.Input)
		}
	}
	var results []Result
	if len(inputs) > 0 {
		if results, err = j.Call(inputs); err != nil {
			return nil, err
		}
		if len(results) != len(inputs) {
			return nil, fmt.Errorf("%d results for %d records", len(results), len(inputs))
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	for _, rec := range chunk {
		line := Line{Record: rec.Number, ID: rec.ID}
		err := rec.Err
		if err == nil {
			line.Result, err = results[0].JSON, results[0].Err
			results = results[1:]
		}
		if err != nil {
			line.Result, line.Error = nil, err.Error()
			s.fail(line)
		}
		if err := e.Encode(line); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// Output is a file that a job writes: PATH.partial until it is complete, with PATH.job beside it,
// which says what job it is.
type Output struct {
	path string
	file *os.File
	// Done is what was there when the output was opened.
	Done Summary
}

func (o *Output) partial() string { return o.path + ".partial" }
func (o *Output) job() string     { return o.path + ".job" }

// Open opens the output of a job at path. identity is what must be the same for an interrupted job
// to go on; nil for a job that cannot.
func Open(path string, identity map[string]string) (*Output, error) {
	o := &Output{path: path}
	there, err := os.ReadFile(o.job())
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = o.begin(identity)
	case err == nil:
		if err = same(o, there, identity); err == nil {
			err = o.resume()
		}
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (o *Output) begin(identity map[string]string) error {
	var err error
	if o.file, err = os.Create(o.partial()); err != nil || identity == nil {
		return err
	}
	text, err := json.MarshalIndent(identity, "", "  ")
	if err != nil {
		return err
	}
	err = staging.File(o.job(), func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		o.file.Close()
		os.Remove(o.partial())
	}
	return err
}

// same reports what differs between the job that was interrupted and this one.
func same(o *Output, there []byte, identity map[string]string) error {
	before := map[string]string{}
	if err := json.Unmarshal(there, &before); err != nil {
		return fmt.Errorf("%s: not the description of a job: %v", o.job(), err)
	}
	hint := fmt.Sprintf("finish that job, or remove %s and %s", o.job(), filepath.Base(o.partial()))
	if identity == nil {
		return fmt.Errorf("%s: an interrupted job is there, and one that reads standard input cannot go on with it; %s", o.job(), hint)
	}
	var keys []string
	for key := range identity {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if before[key] != identity[key] {
			return fmt.Errorf("%s: an interrupted job is there whose %s is %q, here it is %q; %s", o.job(), key, before[key], identity[key], hint)
		}
	}
	return nil
}

// resume counts the lines that are there and drops one that was cut.
func (o *Output) resume() (err error) {
	if o.file, err = os.OpenFile(o.partial(), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			o.file.Close()
		}
	}()
	end := int64(0)
	err = eachLine(o.file, func(line Line, size int) error {
		end += int64(size)
		o.Done.Records++
		if line.Error != "" {
			o.Done.fail(line)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", o.partial(), err)
	}
	if err := o.file.Truncate(end); err != nil {
		return err
	}
	_, err = o.file.Seek(end, io.SeekStart)
	return err
}

// Write appends lines.
func (o *Output) Write(lines []byte) (int, error) { return o.file.Write(lines) }

// Close keeps an incomplete output for the next time, if there is a line in it.
func (o *Output) Close() error {
	info, err := o.file.Stat()
	closed := o.file.Close() // first: Windows removes no open file
	if err == nil && info.Size() == 0 {
		os.Remove(o.partial())
		os.Remove(o.job())
	}
	return closed
}

// Complete gives the output its name, after convert, when not nil, has made another file of the
// lines.
func (o *Output) Complete(convert func(lines io.ReadSeeker, path string) error) error {
	if err := o.file.Sync(); err != nil {
		return err
	}
	if convert != nil {
		if _, err := o.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := convert(o.file, o.path); err != nil {
			return err
		}
	}
	if err := o.file.Close(); err != nil {
		return err
	}
	var err error
	if convert != nil {
		err = os.Remove(o.partial())
	} else {
		err = os.Rename(o.partial(), o.path)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(o.job()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
