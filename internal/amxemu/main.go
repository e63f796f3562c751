// Command amxemu runs a program for linux/amd64 that uses AMX on a processor without it:
//
//	amxemu PROGRAM [ARGUMENT]...
//
// It traces the program (ptrace). A tile instruction raises SIGILL there; amxemu then executes it on
// tiles of its own, one set for each thread, and lets the thread go on behind it. All other
// instructions run on the processor. So the code that is tested is the code that is shipped, byte
// for byte. What the manual answers with #UD or #GP ends the program with a sentence that names the
// condition.
//
// tiles.go has the instructions, decode.go their encodings, trace_linux_amd64.go the tracing. It
// imports nothing of this module: package kernel has the arithmetic a second time, and a test holds
// the two against each other.
//
// The program sees the CPUID of the machine, so it must use AMX without asking for it. On a
// processor with AMX nothing is emulated unless the program lacks the permission for tile data
// (arch_prctl): then the instructions raise SIGILL there too.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "amxemu: usage: amxemu PROGRAM [ARGUMENT]...")
		os.Exit(2)
	}
	status, err := trace(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "amxemu:", err)
		os.Exit(1)
	}
	os.Exit(status)
}
