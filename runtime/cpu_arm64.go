package rt

// pause tells the core that the caller spins (cpu_arm64.s).
func pause()

// hasFeature reports whether the CPU has a feature beyond the baseline of GOARCH, by its name in
// the Arm manuals, and the operating system says so (cpu_GOOS_arm64.go).
func hasFeature(name string) bool { return systemHasFeature(name) }

// hasTrait reports traits of CPUs; none is known here.
func hasTrait(string) bool { return false }
