package rt

// callMACs is 150 µs at 21 G/s, the f32 rate of a core with two 128-bit pipes at 2.6 GHz, and half
// of that with four.
const callMACs = 3 << 20

// pause tells the core that the caller spins (cpu_arm64.s).
func pause()

// hasFeature reports whether the CPU has a feature beyond the baseline of GOARCH, by its name in
// the Arm manuals, and the operating system says so (cpu_GOOS_arm64.go).
func hasFeature(name string) bool { return systemHasFeature(name) }

// hasTrait reports traits of CPUs; none is known here.
func hasTrait(string) bool { return false }

// selfTest returns what is wrong with features that the CPU has; nothing is tried here.
func selfTest([]string) (fault string) { return "" }
