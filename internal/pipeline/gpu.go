package pipeline

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bertc/bertc/codegen/ptx"
	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns emitting a program for the GPU, and running a package on the emulator.

// DeviceEmulator is the device of DriverOptions that needs no GPU: the package's PTX runs on the
// emulator, thousands of times slower, and its faults are errors.
const DeviceEmulator = "emulator"

// DeviceCPU is the processor.
const DeviceCPU = rt.DeviceCPU

// gpuDevice is what a package calls the GPU.
const gpuDevice = "cuda"

// gpuFile and gpuOffFile are the files of a package with the GPU and without; gpuTable is its
// launch table.
const (
	gpuFile    = "cuda.go"
	gpuOffFile = "cuda_off.go"
	gpuTable   = "kernels_ptx.go"
)

// Devices returns the names of devices for DriverOptions.
func Devices() []string { return []string{DeviceCPU, gpuDevice, rt.DeviceAuto, DeviceEmulator} }

// WithGPU returns all architectures that multiply bf16, for Options.Architectures.
func WithGPU() []string {
	archs := []string{gpuArchitecture}
	for _, b := range backends {
		if t := b().Target(); t.Multiplies(ir.BF16) && !slices.Contains(archs, t.GOARCH) {
			archs = append(archs, t.GOARCH)
		}
	}
	return archs
}

// CheckGPU says why the GPU has no kernels for the numerics; nil where it has them.
func CheckGPU(math ir.DType) error {
	if math != ir.BF16 {
		return fmt.Errorf("the GPU multiplies bf16, not %s (--dtype bf16)", DTypeName(math))
	}
	return nil
}

// packageDevice is the name of a device for the package's own options: the emulator takes the place
// of the GPU.
func packageDevice(device string) string {
	if device == DeviceEmulator {
		return gpuDevice
	}
	return device
}

// GPUTarget is the kernel target of the GPU.
const GPUTarget = ptx.TargetName

// GPUCode emits the kernels of a program as one PTX text and its launch table.
func GPUCode(p *program.Program) (*emit.GPU, error) {
	g := &emit.GPU{}
	var entries []string
	for _, k := range p.Kernels {
		u, err := gpuUnit(k)
		if err != nil {
			return nil, err
		}
		entries = append(entries, u.PTX)
		g.Program.Kernels = append(g.Program.Kernels, u.Kernel)
	}
	if b := p.Buffer("logits"); b != nil {
		u := ptx.TopK("top_k", b.Cols())
		entries = append(entries, u.PTX)
		g.Program.TopK = u.Kernel
	}
	g.PTX = ptx.Module(entries...)
	return g, nil
}

// gpuUnit emits one kernel of a program.
func gpuUnit(k program.Kernel) (ptx.Unit, error) {
	plan, ok := k.Plan(ptx.TargetName)
	if !ok {
		return ptx.Unit{}, fmt.Errorf("kernel %s has no plan for %s", k.Name, ptx.TargetName)
	}
	return ptx.Emit(strings.ReplaceAll(k.Name, ".", "_"), kernel.Kernel{Spec: k.Spec, Plan: plan})
}

// PTX returns the module of a kernel of the program, or of all with an empty name.
func PTX(p *program.Program, name string) (string, error) {
	if name == "" {
		g, err := GPUCode(p)
		if err != nil {
			return "", err
		}
		return g.PTX, nil
	}
	k := p.Kernel(name)
	if k == nil {
		var names []string
		for _, k := range p.Kernels {
			names = append(names, k.Name)
		}
		return "", fmt.Errorf("--kernel %q: the program has no such kernel (kernels: %s)", name, strings.Join(names, ", "))
	}
	u, err := gpuUnit(*k)
	if err != nil {
		return "", err
	}
	return ptx.Module(u.PTX), nil
}

// SASS returns the machine code of a module as NVIDIA's ptxas and nvdisasm print it. Both must be on
// the path.
func SASS(ctx context.Context, module string) (string, error) {
	dir, err := os.MkdirTemp("", "bertc-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	source, cubin := filepath.Join(dir, "model.ptx"), filepath.Join(dir, "model.cubin")
	if err := os.WriteFile(source, []byte(module), 0o644); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "ptxas", "-arch=sm_90a", "-O3", source, "-o", cubin).CombinedOutput(); err != nil {
		return "", fmt.Errorf("ptxas: %w: %s", err, out)
	}
	out, err := exec.CommandContext(ctx, "nvdisasm", "-c", cubin).Output()
	if err != nil {
		return "", fmt.Errorf("nvdisasm: %w", err)
	}
	return string(out), nil
}

// overlayEmulator adds to the files that replace those of a package: the emulator in place of the
// driver's binding, without the build tag.
func overlayEmulator(replace map[string]string, tmp, dir, importPath string) error {
	imports := strings.NewReplacer(
		"github.com/bertc/bertc/runtime/cuda", importPath+"/internal/cuda",
		"github.com/bertc/bertc/codegen/ptx/emu\"", importPath+"/internal/emu\"",
		"github.com/bertc/bertc/internal/num", importPath+"/internal/num",
	)
	add := func(name, text string) error {
		file := filepath.Join(tmp, strings.ReplaceAll(name, "/", "_"))
		replace[filepath.Join(dir, filepath.FromSlash(name))] = file
		return os.WriteFile(file, []byte(text), 0o600)
	}
	for _, name := range []string{gpuFile, gpuTable} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, code, _ := strings.Cut(string(text), "//go:build")
		_, code, _ = strings.Cut(code, "\n")
		code = strings.Replace(code, "import (", fmt.Sprintf("import (\n%q", importPath+"/internal/emulator"), 1)
		code = strings.Replace(code, "cuda.OpenDriver()", "emulator.Open(1, 4), error(nil)", 1)
		if err := add(name, code); err != nil {
			return err
		}
	}
	replace[filepath.Join(dir, gpuOffFile)] = "" // is not there
	for _, c := range []struct {
		dir string
		fs  embed.FS
	}{{"emulator", emulator.Source}, {"emu", emu.Source}, {"num", num.Source}} {
		entries, err := c.fs.ReadDir(".")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), "_test.go") || e.Name() == "source.go" {
				continue
			}
			text, err := c.fs.ReadFile(e.Name())
			if err == nil {
				err = add("internal/"+c.dir+"/"+e.Name(), imports.Replace(string(text)))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
