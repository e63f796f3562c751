package ptx

import (
	"errors"
	"slices"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/runtime/cuda"
)

// TestProbes runs the probes on the emulator, which has to be what the formulas say.
func TestProbes(t *testing.T) {
	probes := Probes()
	found, err := RunProbes(emulator.Open(1, 1), probes)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range found {
		if err != nil {
			t.Errorf("%s (%s): %v", probes[i].Name, probes[i].Asks, err)
		}
	}
	t.Logf("%d probes", len(found))
}

// counted is a device that fails after so many calls, and counts what is not given back.
type counted struct {
	cuda.Driver
	left, memory, streams int
}

func (c *counted) fails() error {
	if c.left--; c.left < 0 {
		return errors.New("no more calls")
	}
	return nil
}

func (c *counted) Alloc(sizes ...int) ([]cuda.Pointer, error) {
	if err := c.fails(); err != nil {
		return nil, err
	}
	c.memory++
	return c.Driver.Alloc(sizes...)
}

func (c *counted) Free(p []cuda.Pointer) error { c.memory--; return c.Driver.Free(p) }

func (c *counted) Upload(dst cuda.Pointer, src []byte) error {
	return errors.Join(c.fails(), c.Driver.Upload(dst, src))
}

func (c *counted) EncodeTiled(t cuda.TensorMap) ([cuda.TensorMapBytes]byte, error) {
	m, err := c.Driver.EncodeTiled(t)
	return m, errors.Join(c.fails(), err)
}

func (c *counted) NewStream() (cuda.Stream, error) {
	s, err := c.Driver.NewStream()
	c.streams++
	return &countedStream{s, c}, err
}

type countedStream struct {
	cuda.Stream
	*counted
}

func (s *countedStream) CopyOut(dst []byte, src cuda.Pointer) error {
	return errors.Join(s.fails(), s.Stream.CopyOut(dst, src))
}

func (s *countedStream) Sync() error { return errors.Join(s.fails(), s.Stream.Sync()) }

func (s *countedStream) Close() error { s.streams--; return s.Stream.Close() }

// TestProbesFail: whichever call of the device fails, probes give back their memory and their stream.
func TestProbesFail(t *testing.T) {
	all := Probes()
	i := slices.IndexFunc(all, func(p Probe) bool { return p.tensor != nil })
	copies := all[i : i+1]
	for left := range 10 {
		c := &counted{Driver: emulator.Open(1, 1), left: left}
		_, err := RunProbes(c, copies)
		if want := left < 6; (err != nil) != want { // memory, two uploads, a tensor map, the copy back, the wait
			t.Errorf("%d calls: error %v", left, err)
		}
		if c.memory != 0 || c.streams != 0 {
			t.Errorf("%d calls: %d pieces of memory and %d streams are left", left, c.memory, c.streams)
		}
	}
}

// TestProbesPtxas assembles the probes.
func TestProbesPtxas(t *testing.T) {
	var texts []string
	for _, p := range Probes() {
		texts = append(texts, p.entry.text())
	}
	assemble(t, Module(texts...))
}
