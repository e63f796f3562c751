package rt

import (
	"syscall"
	"time"
	"unsafe"
)

var (
	kernel32       = syscall.NewLazyDLL("kernel32.dll")
	queryCounter   = kernel32.NewProc("QueryPerformanceCounter").Addr()
	queryFrequency = kernel32.NewProc("QueryPerformanceFrequency").Addr()

	// counterHertz does not change while the system runs, and neither call can fail (Microsoft,
	// "Acquiring high-resolution time stamps").
	counterHertz = query(queryFrequency)
)

func query(proc uintptr) (n int64) {
	syscall.SyscallN(proc, uintptr(unsafe.Pointer(&n)))
	return n
}

// clock returns the time since some moment. The clock of package time goes on at interrupts of the
// timer, which are up to 15.6 ms apart.
func clock() time.Duration {
	n := query(queryCounter)
	return time.Duration(n/counterHertz*1e9 + n%counterHertz*1e9/counterHertz)
}
