package rt

import (
	"encoding/binary"
	"os"
)

// hwcaps says where the kernel reports each feature: the entry of the auxiliary vector, which is
// AT_HWCAP or AT_HWCAP2, and the bit (Linux, arch/arm64/include/uapi/asm/hwcap.h).
var hwcaps = map[string]struct {
	entry uint64
	bit   uint
}{
	"FEAT_DotProd": {atHWCAP, 20},
	"FEAT_I8MM":    {atHWCAP2, 13},
	"FEAT_BF16":    {atHWCAP2, 14},
}

const (
	atHWCAP  = 16
	atHWCAP2 = 26
)

func systemHasFeature(name string) bool {
	h, known := hwcaps[name]
	auxv, err := os.ReadFile("/proc/self/auxv")
	return known && err == nil && auxvEntry(auxv, h.entry)>>h.bit&1 == 1
}

// auxvEntry returns the value of an entry of an auxiliary vector, which consists of pairs of
// words, or 0.
func auxvEntry(auxv []byte, entry uint64) uint64 {
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == entry {
			return binary.LittleEndian.Uint64(auxv[8:])
		}
	}
	return 0
}
