package rt

import "syscall"

// systemHasFeature asks for hw.optional.arm.FEAT_name, which macOS has under the names of the Arm
// manuals.
func systemHasFeature(name string) bool {
	v, err := syscall.SysctlUint32("hw.optional.arm." + name)
	return err == nil && v == 1
}
