package rt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime/debug"
	"unsafe"
)

// This file reads the weight file: a header with a table of entries, then their data. All
// numbers are little-endian.
//
//	  0  magic "BERTCWT1"
//	  8  u32 version (1)
//	 12  u32 number of entries
//	 16  u64 bytes of the header, a multiple of 4096
//	 24  u64 bytes of the file
//	 32  32 bytes: Module.ID of the package that the file belongs to
//	 64  u32 CRC-32C of the header, computed with this field zero
//	 68  u32 zero
//	 72  entries, then names, then zeros to the end of the header
//
// An entry has 48 bytes:
//
//	  0  u64 offset of the data in the file, a multiple of 64
//	  8  u64 bytes of the data
//	 16  u32 CRC-32C of the data
//	 20  u32 bytes of the name
//	 24  u64 offset of the name in the header
//	 32  16 zero bytes

const (
	weightMagic   = "BERTCWT1"
	weightVersion = 1
	headBytes     = 72
	entryBytes    = 48
	headerAlign   = 4096
	maxHeader     = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// weightEntry is where one weight lies.
type weightEntry struct {
	name         string
	offset, size int
	crc          uint32
}

// weightFile is a mapped weight file.
type weightFile struct {
	path    string
	data    []byte
	entries []weightEntry
	unmap   func() error
}

// openWeights maps the weight file of mod and checks everything but the data.
func openWeights(mod *Module, path string) (*weightFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrWeights{path, "is not a regular file"}
	}
	entries, err := readHeader(mod, f, info.Size())
	if err != nil {
		return nil, ErrWeights{path, err.Error()}
	}
	data, unmap, err := mapFile(f, int(info.Size()))
	if err != nil {
		return nil, ErrWeights{path, "cannot be mapped: " + err.Error()}
	}
	return &weightFile{path: path, data: data, entries: entries, unmap: unmap}, nil
}

// readHeader reads and checks the header of a weight file of the given size.
func readHeader(mod *Module, r io.ReaderAt, size int64) ([]weightEntry, error) {
	head := make([]byte, headBytes)
	if n, err := r.ReadAt(head, 0); n < headBytes {
		if err != nil && err != io.EOF {
			return nil, err
		}
		return nil, fmt.Errorf("has %d bytes, too few for a header", size)
	}
	le := binary.LittleEndian
	if string(head[:8]) != weightMagic {
		return nil, fmt.Errorf("begins with %q, not with %q", head[:8], weightMagic)
	}
	if v := le.Uint32(head[8:]); v != weightVersion {
		return nil, fmt.Errorf("has version %d, this package reads version %d", v, weightVersion)
	}
	if claimed := le.Uint64(head[24:]); claimed != uint64(size) {
		return nil, fmt.Errorf("has %d bytes, its header says %d", size, claimed)
	}
	count, headerSize := le.Uint32(head[12:]), le.Uint64(head[16:])
	if headerSize%headerAlign != 0 || headerSize > uint64(size) || headerSize > maxHeader {
		return nil, fmt.Errorf("says that its header has %d bytes, which is not a multiple of %d within the file", headerSize, headerAlign)
	}
	if headBytes+uint64(count)*entryBytes > headerSize {
		return nil, fmt.Errorf("says that it has %d entries, which do not fit its header of %d bytes", count, headerSize)
	}
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, int64(headerSize)), header); err != nil {
		return nil, err
	}
	want := le.Uint32(header[64:])
	le.PutUint32(header[64:], 0)
	if got := crc32.Checksum(header, castagnoli); got != want {
		return nil, fmt.Errorf("has a damaged header: checksum %08x, expected %08x", got, want)
	}
	if id := header[32:64]; !bytes.Equal(id, mod.ID[:]) {
		return nil, fmt.Errorf("belongs to another package or compile: id %x…, package %s has %x…", id[:8], mod.Name, mod.ID[:8])
	}
	if le.Uint32(header[68:]) != 0 {
		return nil, fmt.Errorf("has a reserved header field that is not zero")
	}
	return readEntries(mod, header, int(count), uint64(size))
}

// readEntries reads the table of a header whose checksum is right, against Module.Weights.
func readEntries(mod *Module, header []byte, count int, fileSize uint64) ([]weightEntry, error) {
	if count != len(mod.Weights) {
		return nil, fmt.Errorf("has %d entries, package %s has %d weights", count, mod.Name, len(mod.Weights))
	}
	le := binary.LittleEndian
	entries := make([]weightEntry, count)
	end := uint64(len(header))
	for i := range entries {
		raw := header[headBytes+i*entryBytes:][:entryBytes]
		offset, size := le.Uint64(raw), le.Uint64(raw[8:])
		nameLen, nameAt := uint64(le.Uint32(raw[20:])), le.Uint64(raw[24:])
		if nameAt > uint64(len(header)) || nameLen > uint64(len(header))-nameAt {
			return nil, fmt.Errorf("entry %d has its name outside the header", i)
		}
		name := string(header[nameAt:][:nameLen])
		if w := mod.Weights[i]; name != w.Name || size != uint64(w.Bytes) {
			return nil, fmt.Errorf("entry %d is %q of %d bytes, package %s has %q of %d bytes", i, name, size, mod.Name, w.Name, w.Bytes)
		}
		if le.Uint64(raw[32:]) != 0 || le.Uint64(raw[40:]) != 0 {
			return nil, fmt.Errorf("entry %q has reserved bytes that are not zero", name)
		}
		if offset%cacheLine != 0 || offset < end {
			return nil, fmt.Errorf("entry %q begins at byte %d, expected a multiple of %d from %d on", name, offset, cacheLine, end)
		}
		if offset > fileSize || size > fileSize-offset {
			return nil, fmt.Errorf("entry %q ends beyond the file of %d bytes", name, fileSize)
		}
		end = offset + size
		entries[i] = weightEntry{name, int(offset), int(size), le.Uint32(raw[16:])}
	}
	return entries, nil
}

// pointer returns where weight i begins.
func (w *weightFile) pointer(i int) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(w.data[w.entries[i].offset:]))
}

// verifyChunk is how much is read between two looks at the context.
const verifyChunk = 16 << 20

// verify compares the checksums of all data.
func (w *weightFile) verify(ctx context.Context) (err error) {
	// Reading a mapping of a file that was cut since raises a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = ErrWeights{w.path, fmt.Sprintf("cannot be read any more: %v", cause)}
		}
	}()
	for _, e := range w.entries {
		sum := uint32(0)
		for rest := w.data[e.offset:][:e.size]; len(rest) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(len(rest), verifyChunk)
			sum = crc32.Update(sum, castagnoli, rest[:n])
			rest = rest[n:]
		}
		if sum != e.crc {
			return ErrWeights{w.path, fmt.Sprintf("data of %q is damaged: checksum %08x, expected %08x", e.name, sum, e.crc)}
		}
	}
	return nil
}
