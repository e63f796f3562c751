package rt

// This file knows CPU features by the names that kernel targets use. The tables of bits are in
// cpu_GOARCH.go.

// Missing returns those of the named features that the CPU lacks or the operating system has not
// enabled; for AMX it asks the operating system for the permission.
func Missing(features ...string) []string { return missing(features) }

// HasTrait reports whether the CPU has a trait that a tier may avoid.
func HasTrait(name string) bool { return hasTrait(name) }

// missing returns the features that the CPU lacks or the operating system has not enabled.
func missing(features []string) []string {
	var lacks []string
	for _, f := range features {
		if !hasFeature(f) {
			lacks = append(lacks, f)
		}
	}
	return lacks
}
