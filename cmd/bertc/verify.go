package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/job"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/internal/verify"
	"github.com/bertc/bertc/ir"
)

// maskEvery is the default of --mask-every.
const maskEvery = 7

func verifyCommand() *cobra.Command {
	var mo modelOptions
	var a, b, text string
	var every int
	var most float64
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify --model DIR --a f32 --b int8 --text FILE",
		Short: "Measure what less precise numerics change, on your own text",
		Long: `Run the lines of a text file through two packages of a model and compare the hidden
states after every layer and the answers. --a, the reference, and --b are f32, bf16
or int8, which compile the model for the occasion, or directories of packages of it.

With b of --a and a of --b, over all tokens:

  error    ‖a−b‖/‖b‖
  centred  ‖a−b‖/‖b − mean of b's rows‖: against what tells tokens apart
  cosine   a·b/(‖a‖‖b‖)

For a masked-language head every n-th token of a line is masked (--mask-every, from
the k-th in line k), and the last figure is for how many of them both put the same
token first; for other heads, the same label, or the same ends of the answer. Lines
are cut at 512 tokens. The exit status is 2 when the error of the last hidden
states exceeds --max-error.`,
		Example: `  bertc verify --model ./retrieva-bert --a f32 --b int8 --text lines.txt
  bertc verify --model ./retrieva-bert --a bf16 --b ./retrieva-int8 --text lines.txt --max-error 0.03`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if text == "" {
				return fmt.Errorf("--text is missing: name a file with a text on each line")
			}
			if every < 0 {
				return fmt.Errorf("--mask-every %d: must be 0 or more", every)
			}
			if !(most >= 0) || math.IsInf(most, 1) {
				return fmt.Errorf("--max-error %g: must be a finite number, 0 or more", most)
			}
			if mo.calibration != "" && a != "int8" && b != "int8" {
				return fmt.Errorf("--calibration %s: is for a model that is compiled with int8, which neither --a nor --b is", mo.calibration)
			}
			m, err := mo.open8(c)
			if err != nil {
				return err
			}
			defer m.Close()
			texts, err := verify.ReadTexts(m, text, every)
			if err != nil {
				return err
			}
			tmp, err := os.MkdirTemp("", "bertc-verify-*")
			if err != nil {
				return err
			}
			defer os.RemoveAll(tmp)
			o := verify.Options{Model: m, Texts: texts}
			var dtypes [2]ir.DType
			sides := []*verify.Side{&o.A, &o.B}
			for i, name := range []string{a, b} {
				if *sides[i], dtypes[i], err = side(c.Context(), m, name, filepath.Join(tmp, strconv.Itoa(i))); err != nil {
					return fmt.Errorf("--%c %w", "ab"[i], err)
				}
			}
			for i, dtype := range dtypes {
				if dtype == 0 {
					continue
				}
				if err := compileInto(c.Context(), m, dtype, sides[i].Dir, c.ErrOrStderr()); err != nil {
					return err
				}
			}
			bar := newJobBar(c.ErrOrStderr(), "texts", int64(len(texts)))
			defer bar.done()
			o.Progress = func(n int) { bar.job(job.Summary{Records: n, Bytes: int64(n)}) }
			r, err := verify.Run(c.Context(), o)
			if err != nil {
				return err
			}
			bar.done()
			show := verify.Report.WriteText
			if asJSON {
				show = verify.Report.WriteJSON
			}
			if err := show(r, c.OutOrStdout()); err != nil {
				return err
			}
			if e := r.Error(); most > 0 && !(e <= most) {
				return fmt.Errorf("the error of the last hidden states is %.3g, more than --max-error %g", e, most)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&mo.model, "model", "", "model directory: config.json, *.safetensors, tokenizer.json")
	f.StringVar(&mo.task, "task", "", "head (default: what config.json names)")
	f.StringVar(&mo.calibration, "calibration", "", "file of bertc calibrate for int8")
	f.StringVar(&a, "a", "f32", "reference: f32, bf16, int8 or the directory of a package")
	f.StringVar(&b, "b", "int8", "what is measured: f32, bf16, int8 or the directory of a package")
	f.StringVar(&text, "text", "", "file with a text on each line")
	f.IntVar(&every, "mask-every", maskEvery, "mask each n-th token of a line; 0: none")
	f.Float64Var(&most, "max-error", 0, "fail above this error of the last hidden states; 0: never")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// open8 opens the model with its calibration, for commands that compile int8 among others.
func (o modelOptions) open8(c *cobra.Command) (*pipeline.Model, error) {
	o.dtype = "int8"
	m, _, err := o.open(c)
	return m, err
}

// side is what --a or --b names: a dtype that the model is to be compiled with, into dir; or the
// directory of a package of the model, and then the dtype is 0.
func side(ctx context.Context, m *pipeline.Model, name, dir string) (verify.Side, ir.DType, error) {
	dtype, err := (&modelOptions{dtype: name}).math()
	if err == nil && name != "" {
		return verify.Side{Name: name, Dir: dir}, dtype, nil
	}
	if _, err := os.Stat(filepath.Join(name, pipeline.ManifestFile)); err != nil {
		return verify.Side{}, 0, fmt.Errorf("%q is neither f32, bf16 nor int8, nor the directory of a generated package", name)
	}
	return verify.Side{Name: name, Dir: name}, 0, m.CheckPackage(ctx, name)
}

// compileInto compiles a package for this machine alone, with a bar.
func compileInto(ctx context.Context, m *pipeline.Model, math ir.DType, dir string, stderr io.Writer) error {
	plans, err := tuned("")
	if err != nil {
		return err
	}
	archs := []string{}
	if slices.Contains(pipeline.Architectures(), runtime.GOARCH) {
		archs = append(archs, runtime.GOARCH)
	}
	bar := newBar(stderr, math.String()+" weights")
	defer bar.done()
	_, err = pipeline.Compile(ctx, m, pipeline.Options{Out: dir, Math: math, Plans: plans, Architectures: archs, Progress: bar.set})
	return err
}
