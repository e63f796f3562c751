package rt

import "syscall"

// permitAMX asks the kernel for the use of tile data by this process, once for all its threads
// (arch_prctl ARCH_REQ_XCOMP_PERM, Documentation/arch/x86/xstate.rst). Without it the first tile
// instruction raises SIGILL, which Go cannot recover from.
func permitAMX() bool {
	const (
		requestPermission = 0x1023
		tileData          = 18
	)
	_, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return errno == 0
}
