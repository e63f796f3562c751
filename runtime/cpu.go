package rt

// This file knows CPU features by the names that kernel targets use. The tables of bits are in
// cpu_GOARCH.go.

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
