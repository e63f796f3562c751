package emu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
)

// This file owns the device: its memory, and the launch of kernels.

// Options of a device. The zero value is usable.
type Options struct {
	Seed     uint64 // of the schedule; runs with one seed are identical
	SMs      int    // CTAs that are resident together, rounded up to whole clusters; 0: 4
	MaxSteps uint64 // instructions of warps without any progress before a livelock is reported; 0: 4 million

	// Perturb lets the approximate functions (ex2, rcp, tanh, …) err as much as PTX ISA allows. The error
	// is a function of the operand, so that equal operands have equal results.
	Perturb bool

	// Stop, where it is set, is asked now and then while a kernel runs. An error ends the launch.
	Stop func() error
}

// Device is an emulated GPU. It is not safe for concurrent use.
type Device struct {
	opt      Options
	allocs   []*alloc // by address
	next     uint64
	maps     []*tensorMap
	loaded   map[*Module]bool
	launches uint64
	stats    Stats
	stream   *Stream // of the device's own Launch
}

// Stats counts what a device has done.
type Stats struct {
	Launches     int
	Instructions uint64 // executed by warps
}

// Stats returns what the device has done so far.
func (d *Device) Stats() Stats { return d.stats }

// alloc is a range of global memory.
type alloc struct {
	base  uint64
	data  []byte
	known []byte // 1 for each byte that was written
	all   bool   // all bytes are known
	freed bool
	ro    bool     // .const
	owner []uint64 // for each 4 bytes, who wrote last; see globalWrite
	name  string

	prints []footprint // of grids that may still run, the newest last
}

func (a *alloc) end() uint64 { return a.base + uint64(len(a.data)) }

// New makes a device.
func New(o Options) *Device {
	if o.SMs <= 0 {
		o.SMs = 4
	}
	if o.MaxSteps == 0 {
		o.MaxSteps = 4 << 20
	}
	d := &Device{opt: o, next: 0x10_0000_0000, loaded: map[*Module]bool{}}
	d.stream = d.NewStream()
	return d
}

// Alloc returns the address of new memory, aligned to 256 bytes. Its contents are undefined: bytes
// 0xff, which are NaN in float formats, and a kernel that loads them is reported.
func (d *Device) Alloc(bytes int) (uint64, error) {
	if bytes <= 0 || bytes > 1<<34 {
		return 0, fmt.Errorf("Alloc of %d bytes", bytes)
	}
	p := d.next
	d.next += (uint64(bytes)+255)&^255 + 4096
	d.insert(p, bytes, "")
	return p, nil
}

func (d *Device) insert(base uint64, size int, name string) *alloc {
	a := &alloc{base: base, data: bytes.Repeat([]byte{0xff}, size), known: make([]byte, size), name: name}
	i := sort.Search(len(d.allocs), func(i int) bool { return d.allocs[i].base > base })
	d.allocs = slices.Insert(d.allocs, i, a)
	return a
}

// find returns the allocation that an address is in or behind, or nil.
func (d *Device) find(addr uint64) *alloc {
	i := sort.Search(len(d.allocs), func(i int) bool { return d.allocs[i].base > addr })
	if i == 0 {
		return nil
	}
	return d.allocs[i-1]
}

// Free ends an allocation. Later accesses are reported.
func (d *Device) Free(addr uint64) error {
	a := d.find(addr)
	if a == nil || a.base != addr || a.freed {
		return fmt.Errorf("Free of %#x, which no Alloc returned", addr)
	}
	a.freed, a.data, a.known, a.owner, a.prints = true, a.data[:0:0], nil, nil, nil
	return nil
}

// bytes returns n bytes of global memory.
func (d *Device) bytes(what string, addr uint64, n int) (*alloc, int, error) {
	a := d.find(addr)
	if a == nil || a.freed || addr+uint64(n) > a.end() {
		return nil, 0, fmt.Errorf("%s of %d bytes at %#x: %s", what, n, addr, d.where(addr))
	}
	return a, int(addr - a.base), nil
}

// where says in words what is at an address of global memory.
func (d *Device) where(addr uint64) string {
	a := d.find(addr)
	switch {
	case a == nil:
		return "no memory is allocated there"
	case a.freed:
		return fmt.Sprintf("memory from %#x on was freed", a.base)
	case addr >= a.end():
		return fmt.Sprintf("%d bytes behind an allocation of %d bytes at %#x", addr-a.end(), len(a.data), a.base)
	}
	return fmt.Sprintf("byte %d of an allocation of %d bytes at %#x", addr-a.base, len(a.data), a.base)
}

// CopyIn copies from the host to the device. It, CopyOut and Memset wait for what Launch has begun; with
// other streams they are not ordered.
func (d *Device) CopyIn(dst uint64, src []byte) error {
	d.stream.Sync()
	a, off, err := d.bytes("CopyIn", dst, len(src))
	if err != nil {
		return err
	}
	copy(a.data[off:], src)
	a.know(off, len(src))
	return nil
}

// know marks bytes as written.
func (a *alloc) know(off, n int) {
	if a.all {
		return
	}
	if n == len(a.data) {
		a.all = true
		return
	}
	k := a.known[off : off+n]
	for i := range k {
		k[i] = 1
	}
}

// unknown returns the first of n bytes that was never written, or -1.
func (a *alloc) unknown(off, n int) int {
	if a.all {
		return -1
	}
	return bytes.IndexByte(a.known[off:off+n], 0)
}

// CopyOut copies from the device to the host. Bytes that were never written are 0xff.
func (d *Device) CopyOut(dst []byte, src uint64) error {
	d.stream.Sync()
	a, off, err := d.bytes("CopyOut", src, len(dst))
	if err != nil {
		return err
	}
	copy(dst, a.data[off:])
	return nil
}

// Memset fills n bytes.
func (d *Device) Memset(dst uint64, value byte, n int) error {
	return d.CopyIn(dst, bytes.Repeat([]byte{value}, n))
}

// load gives the variables of a module memory.
func (d *Device) load(m *Module) {
	if d.loaded[m] {
		return
	}
	d.loaded[m] = true
	for _, v := range m.vars {
		a := d.insert(v.addr, v.size, v.name)
		clear(a.data) // PTX ISA: variables without initialisers are zero
		copy(a.data, v.init)
		a.all, a.ro = true, v.space == "const"
	}
}

// Symbol returns the address of a variable of the global or const space.
func (d *Device) Symbol(m *Module, name string) (uint64, error) {
	for _, v := range m.vars {
		if v.name == name {
			d.load(m)
			return v.addr, nil
		}
	}
	return 0, fmt.Errorf("the module has no variable %s", name)
}

// Config is the shape of a launch, x first.
type Config struct {
	Grid    [3]int // CTAs; zeros are ones
	Block   [3]int // threads of a CTA
	Cluster [3]int // CTAs of a cluster; zeros: what the kernel declares, or one
	Shared  int    // bytes of dynamic shared memory
	// Dependent: the launch may begin before the one ahead in its stream has completed
	// (CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION).
	Dependent bool
}

// maxShared is the shared memory that a CTA may have on sm_90 (CUDA C++ Programming Guide, table
// of technical specifications: 227 KiB).
const maxShared = 227 << 10

// manyCTAs is the most CTAs of a launch, since a run lists them: 128 MiB.
const manyCTAs = 1 << 24

// Block is the number of threads that the kernel declares with .reqntid or .maxntid, or zeros.
func (k *Kernel) Block() [3]int {
	if k.e.reqTid[0] > 0 {
		return k.e.reqTid
	}
	return k.e.maxTid
}

// ones makes ones of zeros and returns the product, at most manyCTAs+1. Extents are below 2^31.
func ones(v *[3]int) int {
	n := 1
	for i := range v {
		if v[i] == 0 {
			v[i] = 1
		}
		n = min(n*v[i], manyCTAs+1)
	}
	return n
}

// check fills in what a configuration leaves open.
func (k *Kernel) check(c *Config, params []byte) error {
	for _, v := range [][3]int{c.Grid, c.Block, c.Cluster} {
		for _, n := range v {
			if n < 0 || n > 1<<31-1 {
				return fmt.Errorf("launch of %s: an extent of %d", k.Name, n)
			}
		}
	}
	if ones(&c.Grid) > manyCTAs {
		return fmt.Errorf("launch of %s: a grid of %v, the emulator runs at most %d CTAs", k.Name, c.Grid, manyCTAs)
	}
	threads := ones(&c.Block)
	if threads > 1024 {
		return fmt.Errorf("launch of %s: a block of %v, a CTA has at most 1024 threads", k.Name, c.Block)
	}
	if m := k.e.maxTid; m[0] > 0 && threads > m[0]*m[1]*m[2] {
		return fmt.Errorf("launch of %s: %d threads, .maxntid allows %d", k.Name, threads, m[0]*m[1]*m[2])
	}
	if r := k.e.reqTid; r[0] > 0 && c.Block != r {
		return fmt.Errorf("launch of %s: a block of %v, .reqntid wants %v", k.Name, c.Block, r)
	}
	if threads%32 != 0 {
		return fmt.Errorf("launch of %s: %d threads; the emulator knows only whole warps of 32", k.Name, threads)
	}
	if c.Cluster == [3]int{} {
		c.Cluster = k.e.cluster
	}
	n := ones(&c.Cluster)
	if want := k.e.cluster; want[0] > 0 && c.Cluster != want {
		return fmt.Errorf("launch of %s: a cluster of %v, .reqnctapercluster wants %v", k.Name, c.Cluster, want)
	}
	if n > 8 {
		return fmt.Errorf("launch of %s: a cluster of %v, the portable limit is 8 CTAs", k.Name, c.Cluster)
	}
	for i := range c.Grid {
		if c.Grid[i]%c.Cluster[i] != 0 {
			return fmt.Errorf("launch of %s: a grid of %v is not made of clusters of %v", k.Name, c.Grid, c.Cluster)
		}
	}
	if total := k.shared - sharedBase + c.Shared; c.Shared < 0 || total > maxShared {
		return fmt.Errorf("launch of %s: %d bytes of shared memory, a CTA has at most %d", k.Name, total, maxShared)
	}
	if len(params) != k.size {
		return fmt.Errorf("launch of %s: %d bytes of parameters, the kernel has %d", k.Name, len(params), k.size)
	}
	return nil
}

// Launch is Stream.Launch of a stream of the device's own.
func (d *Device) Launch(k *Kernel, c Config, params []byte) error {
	return d.stream.Launch(k, c, params)
}

func (d *Device) launch(k *Kernel, c Config, params []byte, g *grid) (err error) {
	if err := k.check(&c, params); err != nil {
		return err
	}
	d.load(k.module)
	d.launches++
	g.number = d.launches
	d.stats.Launches++
	s := newSim(d, g, k, c, params)
	defer func() {
		d.stats.Instructions += s.steps
		if r := recover(); r != nil {
			switch r := r.(type) {
			case *Report:
				err = r
			case stopped:
				err = r.error
			default:
				panic(r)
			}
		}
	}()
	s.run()
	return nil
}

// stopped is an error of Options.Stop on its way out of a launch.
type stopped struct{ error }

// Pack lays out parameters as a kernel wants them. Values are uint64, uint32, int32, float32 or
// arrays of 128 bytes (tensor maps).
func (k *Kernel) Pack(values ...any) ([]byte, error) {
	if len(values) != len(k.Params) {
		return nil, fmt.Errorf("%s has %d parameters, not %d", k.Name, len(k.Params), len(values))
	}
	out := make([]byte, k.size)
	for i, p := range k.Params {
		b, err := binary.Append(nil, binary.LittleEndian, values[i])
		if err != nil || len(b) != p.Size {
			return nil, fmt.Errorf("parameter %s of %s has %d bytes, the value is a %T", p.Name, k.Name, p.Size, values[i])
		}
		copy(out[p.Offset:], b)
	}
	return out, nil
}
