package checkpoint

// This file owns the format of the packed weight file. All numbers are little-endian.
//
//	  0  "BERTCWT1"
//	  8  u32 version (1)
//	 12  u32 number of weights
//	 16  u64 header bytes, a multiple of 4096
//	 24  u64 file bytes
//	 32  [32] identity of the package that the file belongs to
//	 64  u32 CRC-32C of the header bytes, this field taken as zero
//	 68  u32 zero
//	 72  one entry of 48 bytes for each weight
//	       0  u64 offset of the data in the file, a multiple of 64
//	       8  u64 size of the data in bytes
//	      16  u32 CRC-32C of the data
//	      20  u32 length of the name
//	      24  u64 offset of the name in the file
//	      32  [16] zero
//	     the names, zeros up to the end of the header, the data with zeros between

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	packMagic   = "BERTCWT1"
	packVersion = 1
	packFixed   = 72
	packEntry   = 48
	packPage    = 4096
	packAlign   = 64
	packCRC     = 64 // offset of the header's CRC
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// PackedWeight is one weight of a packed file.
type PackedWeight struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Layout string `json:"layout"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	CRC32C uint32 `json:"crc32c"`
}

// Manifest describes a packed file.
type Manifest struct {
	HeaderBytes int64          `json:"header_bytes"`
	FileBytes   int64          `json:"file_bytes"`
	Weights     []PackedWeight `json:"weights"`
}

// place sets the offsets of the weights and the sizes of header and file. Sizes are set already.
func (m *Manifest) place() {
	n := int64(packFixed)
	for _, w := range m.Weights {
		n += packEntry + int64(len(w.Name))
	}
	m.HeaderBytes = roundUp(n, packPage)
	at := m.HeaderBytes
	for i := range m.Weights {
		m.Weights[i].Offset = at
		at = roundUp(at+m.Weights[i].Size, packAlign)
	}
	m.FileBytes = at
}

// header returns the header bytes of the file.
func (m *Manifest) header(id [32]byte) []byte {
	le := binary.LittleEndian
	h := make([]byte, m.HeaderBytes)
	copy(h, packMagic)
	le.PutUint32(h[8:], packVersion)
	le.PutUint32(h[12:], uint32(len(m.Weights)))
	le.PutUint64(h[16:], uint64(m.HeaderBytes))
	le.PutUint64(h[24:], uint64(m.FileBytes))
	copy(h[32:], id[:])
	name := packFixed + packEntry*len(m.Weights)
	for i, w := range m.Weights {
		e := h[packFixed+packEntry*i:]
		le.PutUint64(e, uint64(w.Offset))
		le.PutUint64(e[8:], uint64(w.Size))
		le.PutUint32(e[16:], w.CRC32C)
		le.PutUint32(e[20:], uint32(len(w.Name)))
		le.PutUint64(e[24:], uint64(name))
		name += copy(h[name:], w.Name)
	}
	le.PutUint32(h[packCRC:], crc32.Checksum(h, castagnoli))
	return h
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
