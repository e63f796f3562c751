package pipeline

// This file owns running a generated package: the program around it and the talk with it.

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/bertc/bertc/program"
	rt "github.com/bertc/bertc/runtime"
)

// A Driver is a running generated package: a small program around it, built with the Go toolchain
// and spoken to through pipes. The program's source is laid over the package's directory
// (go build -overlay), so that nothing is written there and its imports resolve as the user's do.
type Driver struct {
	ctx    context.Context // ends the process; kept for telling an interrupt from a defect
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	ended  sync.Once
	enc    *gob.Encoder
	dec    *gob.Decoder
	stderr bytes.Buffer
	dir    string  // of the package
	binary *Binary // that goes with the driver, or nil
	// BuildTime is what go build took.
	BuildTime time.Duration
	// Hello is what the package says of itself.
	Hello Hello
}

// DriverOptions are the options of the package's OpenWith and NewSession.
type DriverOptions struct {
	Kernels   string
	Threads   int
	MaxTokens int
	Device    string // DeviceEmulator, or what Options.Device of the package takes; "" is the CPU
	Observe   bool   // Encode returns the result of every step
	Times     bool   // Encode returns the time of every step
	// Emulator is the command that runs the program, for a package that was built for another
	// architecture; the program is its last argument.
	Emulator []string
}

// Hello is the driver's first message.
type Hello struct {
	Err          string
	OpenTime     time.Duration
	Kernels      string // the kernel set that runs, or the device
	Device       string // DeviceCPU, or the name of another
	NoDevice     string // why it is not the GPU, where the options left the choice
	Info         string
	HiddenSize   int
	VocabSize    int
	MaxPositions int
	LogitsSize   int      // 0 without a head
	Tasks        []string // the methods on text, by the names of Driver.Call
}

// Request is one call: a method on text when Task names one; a question about the weight file with
// Info; otherwise Encode of IDs when there are any, and then Logits of Rows, tokens of the last
// batch, in blocks.
type Request struct {
	Task            string
	Inputs, Options []byte // JSON
	Info            bool

	IDs, Positions, Offsets []int32
	Rows                    []int32
	Quiet                   bool // leave out the hidden states
}

// Response is one result; More says that another one follows. Encode gives Hidden, Logits as many
// responses as there are blocks. With Observe the result of each step comes before, in a response
// of its own.
type Response struct {
	Err    string
	More   bool
	Hidden []float32
	Logits []float32
	// Results and Failed are of a method on text, one for each input: JSON, or the error.
	Results [][]byte
	Failed  []string
	Steps   []StepResult
	Took    time.Duration // inside the package
	Allocs  uint64        // heap objects that the call allocated
	// WeightBytes, HugeBytes and HugeKnown answer Info, with the meaning they have in the package.
	WeightBytes, HugeBytes int
	HugeKnown              bool
}

// StepResult is what one step wrote: rows of the step's result buffer.
type StepResult struct {
	Step int
	Name string
	Rows int
	Data []byte
	Took time.Duration
}

//go:embed driver.go.tmpl
var driverSource string

var driverTemplate = template.Must(template.New("driver").Parse(driverSource))

// Binary is a generated package with the program around it, built.
type Binary struct {
	dir, tmp, exe string
	// BuildTime is what go build took.
	BuildTime time.Duration
}

// Build builds the package in dir for a device, "" for the CPU. Close removes what was built.
func Build(ctx context.Context, dir, device string) (*Binary, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	b := &Binary{dir: dir}
	if b.tmp, err = os.MkdirTemp("", "bertc-driver-*"); err != nil {
		return nil, err
	}
	if err := b.build(ctx, device); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Binary) build(ctx context.Context, device string) error {
	pkg, err := readPackage(ctx, b.tmp, b.dir)
	if err != nil {
		return err
	}
	start := time.Now()
	b.exe, err = buildDriver(ctx, b.tmp, b.dir, pkg, device)
	b.BuildTime = time.Since(start)
	return err
}

// Close removes the binary.
func (b *Binary) Close() error { return os.RemoveAll(b.tmp) }

// Start starts a driver. The binary must not be closed before it.
func (b *Binary) Start(ctx context.Context, o DriverOptions) (*Driver, error) {
	d := &Driver{ctx: ctx, dir: b.dir, BuildTime: b.BuildTime}
	if err := d.start(ctx, b.exe, o); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// StartDriver builds the package in dir and starts it; closing the driver removes the binary.
func StartDriver(ctx context.Context, dir string, o DriverOptions) (*Driver, error) {
	b, err := Build(ctx, dir, o.Device)
	if err != nil {
		return nil, err
	}
	d, err := b.Start(ctx, o)
	if err != nil {
		b.Close()
		return nil, err
	}
	d.binary = b
	return d, nil
}

func (d *Driver) start(ctx context.Context, exe string, o DriverOptions) (err error) {
	command := append(slices.Clone(o.Emulator), exe, filepath.Join(d.dir, WeightFile), o.Kernels,
		strconv.Itoa(o.Threads), strconv.Itoa(o.MaxTokens), strconv.FormatBool(o.Observe), strconv.FormatBool(o.Times), packageDevice(o.Device))
	d.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	d.cmd.Stderr = &d.stderr
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return err
	}
	if d.out, err = d.cmd.StdoutPipe(); err != nil {
		return err
	}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.enc, d.dec = gob.NewEncoder(d.in), gob.NewDecoder(d.out)
	if err := d.dec.Decode(&d.Hello); err != nil {
		return d.broken(err)
	}
	if d.Hello.Err != "" {
		return errors.New(d.Hello.Err)
	}
	return nil
}

// Program returns the program of the package, from its plan.txt.
func (d *Driver) Program() (*program.Program, error) { return readProgram(d.dir) }

// Manifest returns the manifest of the package: its files, and the table of its weights.
func (d *Driver) Manifest() ([]byte, error) { return os.ReadFile(filepath.Join(d.dir, ManifestFile)) }

// Do sends one request and hands every response to f.
func (d *Driver) Do(req Request, f func(Response) error) error {
	if err := d.enc.Encode(req); err != nil {
		return d.broken(err)
	}
	for {
		var r Response
		if err := d.dec.Decode(&r); err != nil {
			return d.broken(err)
		}
		if r.Err != "" {
			return errors.New(r.Err)
		}
		if err := f(r); err != nil {
			return err
		}
		if !r.More {
			return nil
		}
	}
}

// Close ends the driver.
func (d *Driver) Close() error {
	d.end()
	if d.binary != nil {
		return d.binary.Close()
	}
	return nil
}

// end waits for the process. Its pipes are closed first: a process that writes what nobody reads
// would wait for ever.
func (d *Driver) end() {
	d.ended.Do(func() {
		for _, pipe := range []io.Closer{d.in, d.out} {
			if pipe != nil {
				pipe.Close()
			}
		}
		if d.cmd != nil && d.cmd.Process != nil {
			d.cmd.Wait()
		}
	})
}

// broken says why the process cannot be spoken to: an interrupt, or what it wrote last.
func (d *Driver) broken(err error) error {
	d.end()
	if d.ctx.Err() != nil {
		return d.ctx.Err()
	}
	if ws, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGINT {
		return context.Canceled // the terminal interrupts both processes
	}
	if text := strings.TrimSpace(d.stderr.String()); text != "" {
		first, _, _ := strings.Cut(text, "\n")
		return fmt.Errorf("the generated package stopped: %s", first)
	}
	return fmt.Errorf("the generated package stopped: %w", err)
}

// generated is what go list says of a package.
type generated struct {
	Name, ImportPath string
	GoFiles          []string
	Module           struct{ Path, Dir string }
}

func (g generated) has(file string) bool { return slices.Contains(g.GoFiles, file) }

func readPackage(ctx context.Context, tmp, dir string) (generated, error) {
	var g generated
	if _, err := os.Stat(filepath.Join(dir, ManifestFile)); err != nil {
		return g, fmt.Errorf("%s: not a generated package (no %s)", dir, ManifestFile)
	}
	out, err := GoCommand(ctx, tmp, dir, "list", "-json=Name,ImportPath,GoFiles,Module", ".").Output()
	if err != nil {
		return g, goError(ctx, dir, err)
	}
	return g, json.Unmarshal(out, &g)
}

// noGPU is what a package has that was compiled for CPUs alone.
const noGPU = "no kernels for a GPU (bertc compile --targets ptx)"

func buildDriver(ctx context.Context, tmp, dir string, pkg generated, device string) (bin string, err error) {
	hasGPU := pkg.has(gpuOffFile)
	if (device == gpuDevice || device == DeviceEmulator) && !hasGPU {
		return "", fmt.Errorf("--device %s: %s has %s", device, dir, noGPU)
	}
	var src bytes.Buffer
	err = driverTemplate.Execute(&src, map[string]any{
		"ImportPath": pkg.ImportPath, "HasHead": hasLogits(dir), "Methods": methods(pkg), "HasGPU": hasGPU, "NoGPU": noGPU,
	})
	if err != nil {
		return "", err
	}
	main := filepath.Join(tmp, "main.go")
	if err := os.WriteFile(main, src.Bytes(), 0o600); err != nil {
		return "", err
	}
	replace := map[string]string{filepath.Join(dir, "bertcdriver", "main.go"): main}
	if device == DeviceEmulator {
		if err := overlayEmulator(replace, tmp, dir, pkg.ImportPath); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	bin = filepath.Join(tmp, "driver.exe")
	args := []string{"build", "-overlay", file, "-o", bin}
	if hasGPU && (device == gpuDevice || device == rt.DeviceAuto) {
		args = append(args, "-tags", "cuda")
	}
	if _, err := GoCommand(ctx, tmp, dir, append(args, "./bertcdriver")...).Output(); err != nil {
		return "", goError(ctx, "building "+dir, err)
	}
	return bin, nil
}

// grace is how long a go command may take to end its own processes, before it is killed.
const grace = 5 * time.Second

// GoCommand is a go command in dir. What it leaves when it is stopped is in tmp, which the caller
// removes.
func GoCommand(ctx context.Context, tmp, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOTMPDIR="+tmp)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	return cmd
}

func hasLogits(dir string) bool {
	plan, err := os.ReadFile(filepath.Join(dir, planFile))
	return err == nil && bytes.Contains(plan, []byte("buffer logits"))
}

// goError makes one sentence of a failed go command, which what names.
func goError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *exec.ExitError
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s: the go command is needed to run a generated package and was not found in PATH", what)
	}
	if !errors.As(err, &exit) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: go: %s", what, strings.ReplaceAll(strings.TrimSpace(string(exit.Stderr)), "\n", "; "))
}
