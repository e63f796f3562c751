package emu

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// This file owns tensor maps: what cuTensorMapEncodeTiled takes, and where the elements of a box are in
// global and in shared memory.

// Swizzle is CUtensorMapSwizzle.
type Swizzle int

const (
	SwizzleNone Swizzle = iota
	Swizzle32B
	Swizzle64B
	Swizzle128B
)

// DataType is CUtensorMapDataType.
type DataType int

const (
	Uint8 DataType = iota
	Uint16
	Uint32
	Int32
	Uint64
	Int64
	Float16
	Float32
	Float64
	BFloat16
)

// Size returns the bytes of an element.
func (t DataType) Size() int { return elementBytes[t] }

var elementBytes = []int{1, 2, 4, 4, 8, 8, 2, 4, 8, 2}

// TensorMap is the arguments of cuTensorMapEncodeTiled, the inner dimension first. Out of bounds
// is filled with zeros; element strides are 1.
type TensorMap struct {
	Type    DataType
	Address uint64
	Dims    []uint64 // elements; 1 to 5 dimensions
	Strides []uint64 // bytes; of all dimensions but the inner one
	Box     []uint32 // elements
	Swizzle Swizzle
}

type tensorMap struct {
	TensorMap
	elem int
}

// tensorMagic begins the opaque bytes of a tensor map; the index of the arguments follows.
const tensorMagic = 0x70616d20726f736e

// EncodeTiled checks the arguments as cuTensorMapEncodeTiled documents it and returns the opaque
// bytes for the kernel.
func (d *Device) EncodeTiled(t TensorMap) (opaque [128]byte, err error) {
	if t.Type < 0 || int(t.Type) >= len(elementBytes) {
		return opaque, fmt.Errorf("EncodeTiled: data type %d", t.Type)
	}
	elem := elementBytes[t.Type]
	n := len(t.Dims)
	if n < 1 || n > 5 || len(t.Strides) != n-1 || len(t.Box) != n {
		return opaque, fmt.Errorf("EncodeTiled: %d dimensions, %d strides, %d box extents", n, len(t.Strides), len(t.Box))
	}
	if t.Address&15 != 0 {
		return opaque, fmt.Errorf("EncodeTiled: address %#x is not a multiple of 16", t.Address)
	}
	size := uint64(elem)
	for i := range n {
		if t.Dims[i] == 0 || t.Dims[i] > 1<<32 {
			return opaque, fmt.Errorf("EncodeTiled: dimension %d has %d elements", i, t.Dims[i])
		}
		if t.Box[i] == 0 || t.Box[i] > 256 {
			return opaque, fmt.Errorf("EncodeTiled: box extent %d is %d, the limits are 1 and 256", i, t.Box[i])
		}
		if i > 0 {
			s := t.Strides[i-1]
			if s&15 != 0 || s >= 1<<40 || s == 0 {
				return opaque, fmt.Errorf("EncodeTiled: stride %d is %d bytes; a multiple of 16 below 2^40 is wanted", i, s)
			}
			size += (t.Dims[i] - 1) * s
		} else {
			size += (t.Dims[0] - 1) * uint64(elem)
		}
	}
	inner := int(t.Box[0]) * elem
	if inner%16 != 0 {
		return opaque, fmt.Errorf("EncodeTiled: the inner box extent is %d bytes, not a multiple of 16", inner)
	}
	if t.Swizzle < 0 || t.Swizzle > Swizzle128B {
		return opaque, fmt.Errorf("EncodeTiled: swizzle %d", t.Swizzle)
	}
	if span := 16 << t.Swizzle; t.Swizzle != SwizzleNone && inner > span {
		return opaque, fmt.Errorf("EncodeTiled: the inner box extent is %d bytes, the swizzle spans %d", inner, span)
	}
	if _, _, err := d.bytes("EncodeTiled", t.Address, int(min(size, 1<<40))); err != nil {
		return opaque, err
	}
	t.Dims, t.Strides, t.Box = slices.Clone(t.Dims), slices.Clone(t.Strides), slices.Clone(t.Box)
	binary.LittleEndian.PutUint64(opaque[:], tensorMagic)
	binary.LittleEndian.PutUint64(opaque[8:], uint64(len(d.maps)))
	d.maps = append(d.maps, &tensorMap{t, elem})
	return opaque, nil
}

// tensorMap returns the tensor map whose opaque bytes are at a generic address.
func (w *warp) tensorMap(addr uint64) *tensorMap {
	if addr&63 != 0 {
		w.fail(Misaligned, "address %#x of a tensor map", addr)
	}
	var b []byte
	if off := addr - paramBase; off < maxParams {
		if off+128 > uint64(len(w.sim.params)) {
			w.fail(OutOfBounds, "a tensor map at byte %d of the parameters, which have %d", off, len(w.sim.params))
		}
		b = w.sim.params[off : off+128]
	} else {
		a := w.global(addr, 128)
		w.usesGlobal(a, int(addr-a.base), 128, false)
		b = a.data[addr-a.base:][:128]
	}
	i := binary.LittleEndian.Uint64(b[8:])
	if binary.LittleEndian.Uint64(b) != tensorMagic || i >= uint64(len(w.sim.dev.maps)) {
		w.fail(Operand, "no tensor map is at %#x", addr)
	}
	return w.sim.dev.maps[i]
}

// boxBytes is what a box takes in shared memory.
func (t *tensorMap) boxBytes() int {
	n := t.elem
	for _, b := range t.Box {
		n *= int(b)
	}
	return n
}

// rows calls f for each row of the box at coordinates c: its offset in the box, its address, and
// which of its elements are inside the tensor.
func (t *tensorMap) rows(c []int32, f func(off int, addr uint64, from, to int)) {
	inner := int(t.Box[0])
	from := min(max(0, -int(c[0])), inner)
	to := int(min(max(int64(t.Dims[0])-int64(c[0]), 0), int64(inner)))
	var pos [5]int
	for off := 0; off < t.boxBytes(); off += inner * t.elem {
		addr := t.Address + uint64(int64(c[0])*int64(t.elem))
		inside := true
		for i := 1; i < len(t.Box); i++ {
			x := int64(c[i]) + int64(pos[i])
			inside = inside && x >= 0 && x < int64(t.Dims[i])
			addr += uint64(x * int64(t.Strides[i-1]))
		}
		if inside {
			f(off, addr, from, max(to, from))
		} else {
			f(off, addr, 0, 0)
		}
		for i := 1; i < len(t.Box); i++ {
			if pos[i]++; pos[i] < int(t.Box[i]) {
				break
			}
			pos[i] = 0
		}
	}
}

// place calls f for each 16 bytes of the box with its offset in the box and its shared address.
func (t *tensorMap) place(addr, off, n int, f func(off, addr int)) {
	for i := off; i < off+n; i += 16 {
		a := addr + i
		if t.Swizzle != SwizzleNone {
			a = swizzleAddress(a, 16<<t.Swizzle)
		}
		f(i, a)
	}
}

// landBox writes a box of a tensor into shared memory, zeros where it is outside.
func (s *sim) landBox(t *tensorMap, coords []int32, c *cta, off int) {
	row := make([]byte, int(t.Box[0])*t.elem)
	var a *alloc
	t.rows(coords, func(o int, addr uint64, from, to int) {
		clear(row)
		if to > from {
			first := addr + uint64(from*t.elem)
			if a == nil {
				a = s.dev.find(first)
			}
			if !a.freed {
				copy(row[from*t.elem:to*t.elem], a.data[first-a.base:])
			}
		}
		t.place(off+sharedBase, o, len(row), func(i, at int) {
			copy(c.shared[at-sharedBase:][:16], row[i-o:])
		})
	})
}
