package main

import (
	"bufio"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/internal/gpucheck"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/runtime/cuda"
)

func ptxCheckCommand() *cobra.Command {
	var device, asJSON string
	var layers int
	c := &cobra.Command{
		Use:   "check [--device cuda|emulator]",
		Short: "Check and time the kernels on a GPU",
		Long: `Run models with random weights on the GPU of this machine: against the
interpreter, against the emulator step by step, alone and in batches, with and
without graphs; then the full size against the CPU, and the times of whole calls
and single steps. It needs the driver alone: neither a checkpoint nor Go. It
fails when something differs.

The program must be built for it: make h100 makes .tools/bin/bertc-h100. The
emulator does all but the full size, anywhere.`,
		Example: `  make h100 && scp .tools/bin/bertc-h100 gpu: && ssh gpu ./bertc-h100 ptx check --json ours.json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if layers < 0 {
				return fmt.Errorf("--layers %d: want 0 or more", layers)
			}
			o := gpucheck.Options{Layers: layers}
			emulated := func(seed uint64) func() (cuda.Driver, error) {
				return func() (cuda.Driver, error) { return emulator.Open(seed, 4), nil }
			}
			switch device {
			case "cuda":
				o.Open, o.Emulator = pipeline.OpenGPU, emulated(1)
			case pipeline.DeviceEmulator:
				o.Open, o.Layers = emulated(1), 0
			default:
				return fmt.Errorf("--device %q: unknown (known: cuda, %s)", device, pipeline.DeviceEmulator)
			}
			check := func() (*gpucheck.Report, error) {
				report, err := gpucheck.Run(c.Context(), c.OutOrStdout(), o)
				if failed := report.Failed(); err == nil && failed > 0 {
					err = fmt.Errorf("%d of the checks failed", failed)
				}
				return report, err
			}
			if asJSON == "" {
				_, err := check()
				return err
			}
			var wrong error
			err := writeFile(asJSON, func(w *bufio.Writer) error { // before minutes of checks it is known to be writable
				var report *gpucheck.Report
				report, wrong = check()
				e := json.NewEncoder(w)
				e.SetIndent("", " ")
				return e.Encode(report)
			})
			if wrong != nil {
				return wrong
			}
			return err
		},
	}
	c.Flags().StringVar(&device, "device", "cuda", "the device: cuda or "+pipeline.DeviceEmulator)
	c.Flags().IntVar(&layers, "layers", 48, "layers of the full size that is timed; 0 leaves it out")
	c.Flags().StringVar(&asJSON, "json", "", "write what was found to this file too, also when a check fails")
	return c
}
