// Package hw names the machine: for benchmark output and for tuning records. It imports nothing of
// the module.
package hw

import (
	"bufio"
	"os"
	"runtime"
	"strings"
)

// CPU returns the model name of the processor, as the operating system gives it, or the
// architecture where it gives none.
func CPU() string {
	if name := cpuinfo("model name"); name != "" {
		return name
	}
	return runtime.GOARCH
}

// Fingerprint identifies the kind of processor: vendor, family, model and stepping on x86
// ("AuthenticAMD 25-17-1"), the model name elsewhere. Records of the same fingerprint are from
// the same machine class.
func Fingerprint() string {
	vendor := cpuinfo("vendor_id")
	if vendor == "" {
		return CPU()
	}
	return vendor + " " + cpuinfo("cpu family") + "-" + cpuinfo("model") + "-" + cpuinfo("stepping")
}

// cpuinfo returns a field of the first processor of /proc/cpuinfo.
func cpuinfo(field string) string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, ok := strings.Cut(s.Text(), ":")
		if ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
