package rt

// callMACs is 90 µs at 115 GFLOP/s, the f32 rate of a core with AVX-512 (docs/tuning.md).
const callMACs = 5 << 20

// cpuid and xgetbv are the instructions of those names (cpu_amd64.s).
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
func xgetbv() (eax, edx uint32)

// pause tells the core that the caller spins.
func pause()

// register is an output register of CPUID.
type register int

const (
	eax register = iota
	ebx
	ecx
	edx
)

// State components of XCR0 that must be enabled (Intel SDM volume 1, section 13.1): xmm and ymm;
// with opmask and zmm; tile configuration and data.
const (
	stateAVX    = 1<<1 | 1<<2
	stateAVX512 = stateAVX | 1<<5 | 1<<6 | 1<<7
	stateAMX    = 1<<17 | 1<<18
)

// features says where CPUID reports each feature and which state it needs (Intel SDM volume 2,
// CPUID; volume 1, section 13.1).
var features = map[string]struct {
	leaf, subleaf uint32
	reg           register
	bit           uint
	state         uint32
}{
	"FMA3":        {1, 0, ecx, 12, stateAVX},
	"F16C":        {1, 0, ecx, 29, stateAVX},
	"AVX2":        {7, 0, ebx, 5, stateAVX},
	"AVX512F":     {7, 0, ebx, 16, stateAVX512},
	"AVX512DQ":    {7, 0, ebx, 17, stateAVX512},
	"AVX512BW":    {7, 0, ebx, 30, stateAVX512},
	"AVX512VL":    {7, 0, ebx, 31, stateAVX512},
	"AVX512VBMI":  {7, 0, ecx, 1, stateAVX512},
	"AVX512VNNI":  {7, 0, ecx, 11, stateAVX512},
	"AVX512_BF16": {7, 1, eax, 5, stateAVX512},
	"AMX_BF16":    {7, 0, edx, 22, stateAMX},
	"AMX_TILE":    {7, 0, edx, 24, stateAMX},
	"AMX_INT8":    {7, 0, edx, 25, stateAMX},
}

// osxsave is the bit of leaf 1, ECX, that says that XGETBV may be used.
const osxsave = 27

func cpuidBit(leaf, subleaf uint32, reg register, bit uint) bool {
	if last, _, _, _ := cpuid(0, 0); leaf > last {
		return false
	}
	if last, _, _, _ := cpuid(leaf, 0); leaf == 7 && subleaf > last {
		return false
	}
	var out [4]uint32
	out[eax], out[ebx], out[ecx], out[edx] = cpuid(leaf, subleaf)
	return out[reg]>>bit&1 == 1
}

// hasFeature reports whether the CPU has a feature and the operating system keeps its state.
func hasFeature(name string) bool {
	f, known := features[name]
	if !known || !cpuidBit(1, 0, ecx, osxsave) || !cpuidBit(f.leaf, f.subleaf, f.reg, f.bit) {
		return false
	}
	enabled, _ := xgetbv()
	if enabled&f.state != f.state {
		return false
	}
	return f.state != stateAMX || permitAMX()
}

// hasTrait reports what CPUID has no bit for. "half-rate VDPBF16PS": Intel's cores do one every
// other cycle, half the rate of their f32 multiply-add (measured on Granite Rapids), so that
// widening bf16 to f32 is faster; AMD's do one a cycle, twice the rate (measured on Zen 4).
func hasTrait(name string) bool {
	if name != "half-rate VDPBF16PS" {
		return false
	}
	const genu, inei, ntel = 0x756e6547, 0x49656e69, 0x6c65746e // CPUID leaf 0: "GenuineIntel"
	_, b, c, d := cpuid(0, 0)
	return b == genu && d == inei && c == ntel
}
