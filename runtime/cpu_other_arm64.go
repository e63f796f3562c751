//go:build !linux && !darwin

package rt

// systemHasFeature knows of no feature: the baseline kernels run.
func systemHasFeature(string) bool { return false }
