package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/pipeline"
	rt "github.com/bertc/bertc/runtime"
)

// packageOptions are the flags of commands that run a generated package: one that exists, or one
// that is compiled for the occasion.
type packageOptions struct {
	modelOptions
	dir, device string
}

func (o *packageOptions) flags(c *cobra.Command) {
	o.modelOptions.flags(c)
	c.Flags().StringVar(&o.dir, "package", "", "directory of a generated package")
}

// deviceFlag is for the commands that compute on a GPU too.
func (o *packageOptions) deviceFlag(c *cobra.Command) {
	c.Flags().StringVar(&o.device, "device", "", "where to compute: "+strings.Join(pipeline.Devices(), ", ")+" (default: cpu; the emulator runs the code of the GPU anywhere, slowly)")
}

func (o *packageOptions) check() error {
	if o.device != "" && !slices.Contains(pipeline.Devices(), o.device) {
		return fmt.Errorf("--device %q: unknown (known: %s)", o.device, strings.Join(pipeline.Devices(), ", "))
	}
	if (o.model == "") == (o.dir == "") {
		return fmt.Errorf("name either --model (a checkpoint) or --package (a generated package)")
	}
	for _, f := range []struct{ flag, value, part string }{{"task", o.task, "head"}, {"dtype", o.dtype, "numerics"}, {"calibration", o.calibration, "numerics"}} {
		if o.dir != "" && f.value != "" {
			return fmt.Errorf("--%s %q: a generated package has its %s, use --model", f.flag, f.value, f.part)
		}
	}
	return nil
}

// start returns a driver of the package. Close the driver, then call the returned function.
func (o *packageOptions) start(ctx context.Context, c *cobra.Command, do pipeline.DriverOptions) (*pipeline.Driver, func(), error) {
	dir, clean := o.dir, func() {}
	if dir == "" {
		tmp, err := os.MkdirTemp("", "bertc-*")
		if err != nil {
			return nil, nil, err
		}
		clean = func() { os.RemoveAll(tmp) }
		dir = filepath.Join(tmp, "model")
		if err := o.compile(ctx, c, dir); err != nil {
			clean()
			return nil, nil, err
		}
	}
	do.Device = o.device
	d, err := pipeline.StartDriver(ctx, dir, do)
	if err != nil {
		clean()
		return nil, nil, err
	}
	if d.Hello.NoDevice != "" {
		fmt.Fprintf(c.ErrOrStderr(), "bertc: warning: --device %s: computing on the CPU: %s\n", o.device, d.Hello.NoDevice)
	}
	return d, clean, nil
}

func (o *packageOptions) compile(ctx context.Context, c *cobra.Command, dir string) error {
	m, math, err := o.open(c)
	if err != nil {
		return err
	}
	defer m.Close()
	plans, err := tuned("")
	if err != nil {
		return err
	}
	bar := newBar(c.ErrOrStderr(), "weights")
	defer bar.done()
	po := pipeline.Options{Out: dir, Math: math, Plans: plans, Progress: bar.set}
	if o.device != "" && o.device != pipeline.DeviceCPU {
		err := pipeline.CheckGPU(math)
		if err != nil && o.device != rt.DeviceAuto {
			return fmt.Errorf("--device %s: %w", o.device, err)
		}
		if err == nil {
			po.Architectures = pipeline.WithGPU()
		}
	}
	_, err = pipeline.Compile(ctx, m, po)
	return err
}
