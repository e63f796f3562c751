//go:build !amd64 && !arm64

package rt

// callMACs is for kernels in Go, which can be preempted.
const callMACs = 5 << 20

// pause tells the core that the caller spins, where Go has an instruction for it.
func pause() {}

// hasFeature reports whether the CPU has a feature beyond the baseline of GOARCH.
func hasFeature(string) bool { return false }

// hasTrait reports traits of CPUs; none is known here.
func hasTrait(string) bool { return false }

// selfTest returns what is wrong with features that the CPU has; nothing is tried here.
func selfTest([]string) (fault string) { return "" }
