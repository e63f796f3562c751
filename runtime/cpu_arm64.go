package rt

// pause tells the core that the caller spins (cpu_arm64.s).
func pause()

// hasFeature reports whether the CPU has a feature beyond the baseline of GOARCH.
func hasFeature(string) bool { return false }

// hasTrait reports traits of CPUs; none is known here.
func hasTrait(string) bool { return false }
