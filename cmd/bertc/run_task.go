package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bertc/bertc/internal/job"
	"github.com/bertc/bertc/internal/pipeline"
)

// This file owns bertc run with a task.

// exitFailed is the exit status of a job that went through, but not with all records.
const exitFailed = 3

// failedRecords is the error of such a job.
type failedRecords struct {
	failed, records int
	why             string // where or what it is
}

func (e failedRecords) Error() string {
	return fmt.Sprintf("%d of %d records failed, %s", e.failed, e.records, e.why)
}

// inLines is where a job says why records failed.
const inLines = "their lines say why"

// taskFlags are the options of tasks: the flag, which is also the name of the option with _ for
// -, the tasks that have it (none: all), its type, and its help.
var taskFlags = []struct {
	name  string
	tasks []string
	zero  any
	usage string
}{
	{"long", nil, "", "input of too many tokens: truncate, truncate_second, window (tag, answer); without it, an error"},
	{"max-length", nil, 0, "tokens of the longest input (default: the model's limit)"},
	{"stride", []string{"tag", "answer"}, 0, "tokens that windows share (default: a quarter)"},
	{"unit", []string{"tag", "answer"}, "", "what offsets count: utf16 or bytes (default: code points)"},
	{"batch-tokens", nil, 0, "tokens computed at a time (default 2048)"},
	{"top-k", []string{"fill-mask", "classify", "answer"}, 0, "candidates, labels or answers (default: 5, all, 1)"},
	{"aggregation", []string{"tag"}, "", "how tokens become entities: none, simple, first, average, max (default simple)"},
	{"max-answer", []string{"answer"}, 0, "tokens of the longest answer (default 30)"},
	{"null", []string{"answer"}, false, "the answer without text is among the answers (SQuAD v2)"},
	{"pooling", []string{"embed"}, "", "cls, mean, max, lasttoken or weightedmean (default: the model's, or mean)"},
	{"dimensions", []string{"embed"}, 0, "elements of an embedding (default: all)"},
	{"normalize", []string{"embed"}, false, "embeddings of length 1"},
	{"raw", []string{"embed"}, false, "embeddings that are not normalized, of a model whose are"},
}

func addTaskFlags(f *pflag.FlagSet) {
	for _, t := range taskFlags {
		usage := t.usage
		if t.tasks != nil {
			usage = strings.Join(t.tasks, ", ") + ": " + usage
		}
		switch zero := t.zero.(type) {
		case string:
			f.String(t.name, zero, usage)
		case int:
			f.Int(t.name, zero, usage)
		case bool:
			f.Bool(t.name, zero, usage)
		}
	}
}

// taskOptions returns the options that are set; task is "" where no task is named.
func taskOptions(f *pflag.FlagSet, task string) (map[string]any, error) {
	options := map[string]any{}
	for _, t := range taskFlags {
		flag := f.Lookup(t.name)
		if !flag.Changed {
			continue
		}
		if task == "" {
			return nil, fmt.Errorf("--%s needs a task: bertc run TASK", t.name)
		}
		if t.tasks != nil && !slices.Contains(t.tasks, task) {
			return nil, fmt.Errorf("--%s is for %s, not for %s", t.name, strings.Join(t.tasks, ", "), task)
		}
		var value any = flag.Value.String()
		switch t.zero.(type) {
		case int:
			value, _ = strconv.Atoi(flag.Value.String())
		case bool:
			value = flag.Value.String() == "true"
		}
		options[strings.ReplaceAll(t.name, "-", "_")] = value
	}
	return options, nil
}

// taskRun is bertc run TASK.
type taskRun struct {
	packageOptions
	in, out, format, kernels string
	threads                  int
	columns                  map[string]string
}

func (r *taskRun) run(c *cobra.Command, task string) error {
	if !slices.Contains(pipeline.TextTasks(), task) {
		return fmt.Errorf("task %q: unknown (known: %s)", task, strings.Join(pipeline.TextTasks(), ", "))
	}
	options, err := taskOptions(c.Flags(), task)
	if err != nil {
		return err
	}
	if job.Matrix(r.out) != nil && task != "embed" {
		return fmt.Errorf("--out %s: only embeddings are written as a matrix", r.out)
	}
	in, size, err := openInput(c, r.in)
	if err != nil {
		return err
	}
	defer in.Close()
	if r.format == "" {
		r.format = job.FormatOf(r.in)
	}
	records, err := job.NewReader(in, r.format, task, r.columns)
	if err != nil {
		return fmt.Errorf("--in %s: %w", inputName(r.in), err)
	}
	d, clean, err := r.start(c.Context(), c, pipeline.DriverOptions{Kernels: r.kernels, Threads: r.threads, MaxTokens: 1})
	if err != nil {
		return err
	}
	defer clean()
	defer d.Close()
	if err := d.Check(task); err != nil {
		return err
	}
	bar := newJobBar(c.ErrOrStderr(), task, size)
	defer bar.done()
	j := job.Job{
		In: records,
		Call: func(inputs []json.RawMessage) ([]job.Result, error) {
			results, _, err := d.Call(task, inputs, options)
			out := make([]job.Result, len(results))
			for i, r := range results {
				out[i] = job.Result(r)
			}
			return out, err
		},
		Progress: bar.job,
	}
	start := time.Now()
	done, err := r.write(c.Context(), c, j, d, task, options)
	bar.done()
	took := time.Since(start)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%d records in %s, %.0f records/s", done.Records-done.Before, took.Round(time.Millisecond), float64(done.Records-done.Before)/took.Seconds())
	if done.Before > 0 {
		fmt.Fprintf(c.ErrOrStderr(), ", %d were there before", done.Before)
	}
	fmt.Fprintln(c.ErrOrStderr())
	if done.Failed > 0 {
		why := inLines
		if job.Matrix(r.out) != nil {
			why = fmt.Sprintf("their rows are NaN; the first is record %d: %s", done.FirstFailed, done.Error)
		}
		return failedRecords{done.Failed, done.Records, why}
	}
	return nil
}

// write runs the job to --out, or to standard output.
func (r *taskRun) write(ctx context.Context, c *cobra.Command, j job.Job, d *pipeline.Driver, task string, options map[string]any) (job.Summary, error) {
	if r.out == "" {
		return j.Run(ctx, c.OutOrStdout(), job.Summary{})
	}
	identity, err := r.identity(d, task, options)
	if err != nil {
		return job.Summary{}, err
	}
	out, err := job.Open(r.out, identity)
	if err != nil {
		return job.Summary{}, fmt.Errorf("--out: %w", err)
	}
	defer out.Close()
	done, err := j.Run(ctx, out, out.Done)
	if err != nil {
		if identity != nil && done.Records > 0 {
			err = fmt.Errorf("%w; %d records are done, the same command goes on from there", err, done.Records)
		}
		return done, err
	}
	return done, out.Complete(job.Matrix(r.out))
}

// identity is what a job that goes on must have in common with the one that was interrupted: the
// kernel set and all of the package, whose manifest has the checksums of the weights, among them.
// It is nil where the input cannot be read again.
func (r *taskRun) identity(d *pipeline.Driver, task string, options map[string]any) (map[string]string, error) {
	if r.in == "" || r.in == "-" {
		return nil, nil
	}
	in, err := filepath.Abs(r.in)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(in)
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	manifest, err := d.Manifest()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(manifest)
	text, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	columns, err := json.Marshal(r.columns)
	return map[string]string{
		"task": task, "options": string(text), "fields": string(columns), "format": r.format,
		"model": hex.EncodeToString(sum[:]), "kernels": d.Hello.Kernels,
		"input": in, "input size": strconv.FormatInt(info.Size(), 10), "input time": info.ModTime().UTC().Format(time.RFC3339Nano),
	}, err
}

// openInput opens --in, or standard input. size is 0 where it is not known.
func openInput(c *cobra.Command, path string) (in io.ReadCloser, size int64, err error) {
	if path == "" || path == "-" {
		return io.NopCloser(c.InOrStdin()), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, err
}

func inputName(path string) string {
	if path == "" || path == "-" {
		return "(standard input)"
	}
	return path
}
