package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/staging"
)

func ptxCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "ptx",
		Short: "Run, predict and check kernels in PTX, the assembly language of NVIDIA GPUs",
	}, ptxRunCommand(), ptxPredictCommand(), ptxCheckCommand())
}

// ptxRun is the options of "bertc ptx run".
type ptxRun struct {
	file, entry          string
	grid, block, cluster string
	shared, sms          int
	params               []string
	seed                 uint64
	seeds                int
	perturb              bool
}

func ptxRunCommand() *cobra.Command {
	var o ptxRun
	c := &cobra.Command{
		Use:   "run FILE [--entry NAME] [--grid X,Y,Z] [--block N] [--param VALUE]...",
		Short: "Run a PTX kernel for sm_90a in the emulator and report its faults",
		Long: `Run a kernel on the CPU as an H100 might at worst: warps in random order, TMA,
cp.async and wgmma completing late. Deadlocks, data races, uninitialised reads,
accesses out of bounds and misused barriers are reported with the line of the PTX.
docs/ptx-emulator.md has the instructions that are known and what is checked.

Each parameter of the kernel, in order, is one --param:

  u32=N s32=N u64=N s64=N f32=X f64=X   a value
  in:FILE                    a pointer to memory with the bytes of a file
  zeros:BYTES                a pointer to zeros
  empty:BYTES                a pointer to memory that nobody has written
  random:TYPE:COUNT          a pointer to numbers in [-1, 1); TYPE is bf16, f16 or f32
  out:FILE:BYTES             a pointer to unwritten memory, saved to FILE after the run
  map:TYPE:DIMS:BOX:SWIZZLE:BUFFER
                             a tensor map. DIMS and BOX are AxBx…, the inner dimension last;
                             SWIZZLE is none, 32B, 64B or 128B; BUFFER is one of the pointers
                             above, or #N, the buffer of parameter N (from 1)`,
		Example: `  bertc ptx run saxpy.ptx --grid 4 --block 256 \
    --param f32=2 --param random:f32:1024 --param out:y.bin:4096 --param u32=1024
  bertc ptx run gemm.ptx --entry gemm --grid 2,1,1 --block 384 --shared 98352 --seeds 8 \
    --param map:bf16:128x320:128x64:128B:in:a.bin --param map:bf16:256x320:128x64:128B:in:b.bin \
    --param out:c.bin:65536 --param u32=256 --param u32=320`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.file = args[0]
			return o.run(c)
		},
	}
	f := c.Flags()
	f.StringVar(&o.entry, "entry", "", "the kernel (default: the only one)")
	f.StringVar(&o.grid, "grid", "1", "CTAs, as X, X,Y or X,Y,Z")
	f.StringVar(&o.block, "block", "", "threads of a CTA, as X, X,Y or X,Y,Z (default: what .maxntid or .reqntid says)")
	f.StringVar(&o.cluster, "cluster", "", "CTAs of a cluster, as X, X,Y or X,Y,Z (default: what the kernel says, or 1)")
	f.IntVar(&o.shared, "shared", 0, "bytes of dynamic shared memory")
	f.IntVar(&o.sms, "sms", 4, "CTAs that are resident together")
	f.StringArrayVar(&o.params, "param", nil, "a parameter of the kernel, see above")
	f.Uint64Var(&o.seed, "seed", 0, "the first schedule")
	f.BoolVar(&o.perturb, "perturb", false, "let approximate functions (ex2, rcp, tanh, ...) err as much as PTX ISA allows")
	f.IntVar(&o.seeds, "seeds", 1, "how many schedules to run; all must give the same bytes")
	return c
}

// triple parses X[,Y[,Z]].
func triple(flag, s string) (v [3]int, err error) {
	parts := strings.Split(s, ",")
	if len(parts) > 3 {
		return v, fmt.Errorf("--%s %q: want one to three numbers", flag, s)
	}
	v = [3]int{1, 1, 1}
	for i, p := range parts {
		if v[i], err = strconv.Atoi(p); err != nil || v[i] < 1 {
			return v, fmt.Errorf("--%s %q: %q is not a number above 0", flag, s, p)
		}
	}
	return v, nil
}

func (o *ptxRun) run(c *cobra.Command) error {
	text, err := os.ReadFile(o.file)
	if err != nil {
		return err
	}
	m, err := emu.Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", o.file, err)
	}
	k, err := o.kernel(m)
	if err != nil {
		return err
	}
	var cfg emu.Config
	if cfg.Grid, err = triple("grid", o.grid); err != nil {
		return err
	}
	if o.cluster != "" {
		if cfg.Cluster, err = triple("cluster", o.cluster); err != nil {
			return err
		}
	}
	cfg.Block = k.Block()
	if o.block != "" {
		if cfg.Block, err = triple("block", o.block); err != nil {
			return err
		}
	} else if cfg.Block[0] == 0 {
		return fmt.Errorf("%s: kernel %s does not say how many threads it wants; name --block", o.file, k.Name)
	}
	cfg.Shared = o.shared
	if o.seeds < 1 {
		return fmt.Errorf("--seeds %d: want 1 or more", o.seeds)
	}
	if o.sms < 1 {
		return fmt.Errorf("--sms %d: want 1 or more", o.sms)
	}
	if len(o.params) != len(k.Params) {
		return fmt.Errorf("kernel %s has %d parameters, %d --param were given; it is %s", k.Name, len(k.Params), len(o.params), signature(k))
	}
	var first []ptxBuffer
	for i := range o.seeds {
		seed := o.seed + uint64(i)
		dev := emu.New(emu.Options{Seed: seed, SMs: o.sms, Perturb: o.perturb, Stop: c.Context().Err})
		params, buffers, err := ptxParams(dev, k, o.params)
		if err != nil {
			return err
		}
		if err := dev.Launch(k, cfg, params); err != nil {
			return fmt.Errorf("%s, seed %d: %w", o.file, seed, err)
		}
		for j := range buffers {
			b := &buffers[j]
			b.data = make([]byte, b.size)
			if err := dev.CopyOut(b.data, b.addr); err != nil {
				return err
			}
			if first != nil && !bytes.Equal(b.data, first[j].data) {
				return fmt.Errorf("%s: buffer %d differs between seeds %d and %d: the result depends on the schedule", o.file, j+1, o.seed, seed)
			}
		}
		if first == nil {
			first = buffers
		}
		fmt.Fprintf(c.OutOrStdout(), "seed %d: %s ran, %d instructions of warps, no fault\n", seed, k.Name, dev.Stats().Instructions)
	}
	return savePTX(slices.DeleteFunc(first, func(b ptxBuffer) bool { return b.file == "" }))
}

// savePTX writes the files of buffers. None is in its place before all are complete.
func savePTX(buffers []ptxBuffer) error {
	if len(buffers) == 0 {
		return nil
	}
	return writeFile(buffers[0].file, func(w *bufio.Writer) error {
		w.Write(buffers[0].data)
		if err := w.Flush(); err != nil {
			return err
		}
		return savePTX(buffers[1:])
	})
}

func (o *ptxRun) kernel(m *emu.Module) (*emu.Kernel, error) {
	var names []string
	for _, k := range m.Kernels {
		names = append(names, k.Name)
	}
	if o.entry == "" {
		if len(m.Kernels) > 1 {
			return nil, fmt.Errorf("%s has several kernels, name one with --entry: %s", o.file, strings.Join(names, ", "))
		}
		return m.Kernels[0], nil
	}
	if k := m.Kernel(o.entry); k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("--entry %q: %s has %s", o.entry, o.file, strings.Join(names, ", "))
}

func signature(k *emu.Kernel) string {
	var parts []string
	for _, p := range k.Params {
		if p.Size == 128 {
			parts = append(parts, p.Name+" (tensor map)")
		} else {
			parts = append(parts, fmt.Sprintf("%s (%s)", p.Name, p.Type))
		}
	}
	return k.Name + "(" + strings.Join(parts, ", ") + ")"
}

// ptxBuffer is memory of the device that a --param asked for.
type ptxBuffer struct {
	param int // from 1
	addr  uint64
	size  int
	file  string // to save to
	data  []byte
}

// ptxParams parses the --param flags, allocates what they ask for, and packs the parameters.
func ptxParams(dev *emu.Device, k *emu.Kernel, specs []string) ([]byte, []ptxBuffer, error) {
	var buffers []ptxBuffer
	values := make([]any, len(specs))
	maps := map[int]string{}
	for i, spec := range specs {
		fail := func(err error) error {
			return fmt.Errorf("--param %s, parameter %d (%s): %w", spec, i+1, k.Params[i].Name, err)
		}
		if rest, ok := strings.CutPrefix(spec, "map:"); ok {
			maps[i] = rest
			continue
		}
		if typ, text, ok := strings.Cut(spec, "="); ok && !strings.Contains(typ, ":") {
			v, err := scalar(typ, text)
			if err != nil {
				return nil, nil, fail(err)
			}
			values[i] = v
			continue
		}
		b, err := ptxMemory(dev, spec, i)
		if err != nil {
			return nil, nil, fail(err)
		}
		buffers = append(buffers, b)
		values[i] = b.addr
	}
	for i := range specs { // maps may name the buffers of later parameters
		spec, ok := maps[i]
		if !ok {
			continue
		}
		fail := func(err error) error {
			return fmt.Errorf("--param map:%s, parameter %d (%s): %w", spec, i+1, k.Params[i].Name, err)
		}
		parts := strings.SplitN(spec, ":", 5)
		if len(parts) < 5 {
			return nil, nil, fail(fmt.Errorf("want map:TYPE:DIMS:BOX:SWIZZLE:BUFFER"))
		}
		var b ptxBuffer
		if number, ok := strings.CutPrefix(parts[4], "#"); ok {
			n, err := strconv.Atoi(number)
			j := slices.IndexFunc(buffers, func(b ptxBuffer) bool { return b.param == n })
			if err != nil || j < 0 {
				return nil, nil, fail(fmt.Errorf("%s is not a parameter with a buffer", parts[4]))
			}
			b = buffers[j]
		} else {
			var err error
			if b, err = ptxMemory(dev, parts[4], i); err != nil {
				return nil, nil, fail(err)
			}
			buffers = append(buffers, b)
		}
		m, err := tensorMap(dev, b, parts)
		if err != nil {
			return nil, nil, fail(err)
		}
		values[i] = m
	}
	for i, b := range buffers {
		if b.file != "" && slices.ContainsFunc(buffers[:i], func(o ptxBuffer) bool { return o.file == b.file }) {
			return nil, nil, fmt.Errorf("--param out:%s: two parameters are saved to this file", b.file)
		}
	}
	params, err := k.Pack(values...)
	return params, buffers, err
}

func scalar(typ, text string) (any, error) {
	var v any
	var err error
	switch typ {
	case "u32":
		var u uint64
		u, err = strconv.ParseUint(text, 0, 32)
		v = uint32(u)
	case "s32":
		var s int64
		s, err = strconv.ParseInt(text, 0, 32)
		v = int32(s)
	case "u64":
		v, err = strconv.ParseUint(text, 0, 64)
	case "s64":
		v, err = strconv.ParseInt(text, 0, 64)
	case "f32":
		var f float64
		f, err = strconv.ParseFloat(text, 32)
		v = float32(f)
	case "f64":
		v, err = strconv.ParseFloat(text, 64)
	default:
		return nil, fmt.Errorf("type %q, want u32, s32, u64, s64, f32 or f64", typ)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not a value of type %s", text, typ)
	}
	return v, nil
}

// ptxMemory allocates what a BUFFER of --param describes. Random numbers depend on the position of the
// parameter only.
func ptxMemory(dev *emu.Device, spec string, param int) (b ptxBuffer, err error) {
	kind, rest, _ := strings.Cut(spec, ":")
	var content []byte
	size := 0
	switch kind {
	case "in":
		if content, err = os.ReadFile(rest); err != nil {
			return b, err
		}
		size = len(content)
	case "zeros", "empty":
		if size, err = strconv.Atoi(rest); err != nil {
			return b, fmt.Errorf("%q is not a number of bytes", rest)
		}
	case "out":
		i := strings.LastIndexByte(rest, ':')
		if i < 1 {
			return b, fmt.Errorf("want out:FILE:BYTES")
		}
		b.file = rest[:i]
		if err = staging.CheckFile(b.file); err != nil {
			return b, err
		}
		if size, err = strconv.Atoi(rest[i+1:]); err != nil {
			return b, fmt.Errorf("%q is not a number of bytes", rest[i+1:])
		}
	case "random":
		typ, count, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > math.MaxInt32 {
			return b, fmt.Errorf("%q is not a number of elements", count)
		}
		r := rand.New(rand.NewPCG(uint64(param), 0))
		for range n {
			x := r.Float32()*2 - 1
			switch typ {
			case "bf16":
				content = binary.LittleEndian.AppendUint16(content, num.BF16(x))
			case "f16":
				content = binary.LittleEndian.AppendUint16(content, num.F16(x))
			case "f32":
				content = binary.LittleEndian.AppendUint32(content, math.Float32bits(x))
			default:
				return b, fmt.Errorf("type %q, want bf16, f16 or f32", typ)
			}
		}
		size = len(content)
	default:
		return b, fmt.Errorf("%q is not in, zeros, empty, random, out, map or a value such as u32=5", kind)
	}
	b.param, b.size = param+1, size
	if b.addr, err = dev.Alloc(size); err != nil {
		return b, err
	}
	if kind == "zeros" {
		return b, dev.Memset(b.addr, 0, size)
	}
	if content != nil {
		err = dev.CopyIn(b.addr, content)
	}
	return b, err
}

// tensorMap encodes TYPE:DIMS:BOX:SWIZZLE of a buffer; the tensor is dense.
func tensorMap(dev *emu.Device, b ptxBuffer, parts []string) (m [128]byte, err error) {
	types := map[string]emu.DataType{"u8": emu.Uint8, "u16": emu.Uint16, "u32": emu.Uint32, "s32": emu.Int32, "u64": emu.Uint64, "s64": emu.Int64, "f16": emu.Float16, "f32": emu.Float32, "f64": emu.Float64, "bf16": emu.BFloat16}
	t := emu.TensorMap{Address: b.addr}
	var ok bool
	if t.Type, ok = types[parts[0]]; !ok {
		return m, fmt.Errorf("element type %q", parts[0])
	}
	dims, err := extents(parts[1])
	if err != nil {
		return m, err
	}
	box, err := extents(parts[2])
	if err != nil {
		return m, err
	}
	if t.Swizzle = emu.Swizzle(slices.Index([]string{"none", "32B", "64B", "128B"}, parts[3])); t.Swizzle < 0 {
		return m, fmt.Errorf("swizzle %q, want none, 32B, 64B or 128B", parts[3])
	}
	stride := uint64(t.Type.Size())
	for i, d := range dims {
		t.Dims = append(t.Dims, uint64(d))
		if stride *= uint64(d); i < len(dims)-1 {
			t.Strides = append(t.Strides, stride)
		}
	}
	for _, x := range box {
		t.Box = append(t.Box, uint32(x))
	}
	return dev.EncodeTiled(t)
}

// extents parses AxBx…, and returns the inner dimension first.
func extents(s string) ([]int, error) {
	var out []int
	for p := range strings.SplitSeq(s, "x") {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > math.MaxInt32 {
			return nil, fmt.Errorf("%q: %q is not an extent", s, p)
		}
		out = append(out, n)
	}
	slices.Reverse(out)
	return out, nil
}
