package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// This file owns the tracing: ptrace(2), with the calls of one thread.

// The events that are asked for: new threads and processes are traced as well, a new program says
// so instead of raising SIGTRAP, and all end with amxemu.
const traceOptions = syscall.PTRACE_O_TRACECLONE | syscall.PTRACE_O_TRACEFORK | syscall.PTRACE_O_TRACEVFORK |
	syscall.PTRACE_O_TRACEEXEC | 0x100000 /* PTRACE_O_EXITKILL */

// trace runs a program and returns its exit status.
func trace(command []string) (int, error) {
	runtime.LockOSThread()
	p, err := os.StartProcess(command[0], command, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return 0, err
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(p.Pid, &ws, 0, nil); err != nil {
		return 0, err
	}
	if err := syscall.PtraceSetOptions(p.Pid, traceOptions); err != nil {
		return 0, fmt.Errorf("ptrace: %w", err)
	}
	threads := map[int]*tiles{p.Pid: {}}
	pid, signal := p.Pid, 0
	for {
		// A thread that was killed meanwhile cannot go on; wait4 tells of it.
		if err := syscall.PtraceCont(pid, signal); err != nil && err != syscall.ESRCH {
			return 0, fmt.Errorf("ptrace: %w", err)
		}
		for {
			if pid, err = syscall.Wait4(-1, &ws, syscall.WALL, nil); err == nil {
				if ws.Stopped() {
					break
				}
				delete(threads, pid)
				switch {
				case pid == p.Pid && ws.Exited():
					return ws.ExitStatus(), nil
				case pid == p.Pid:
					return 0, fmt.Errorf("%s: %v", command[0], ws.Signal())
				}
			} else if err != syscall.EINTR {
				return 0, err
			}
		}
		signal = int(ws.StopSignal())
		state, known := threads[pid]
		switch {
		case !known: // the first stop of a new thread
			threads[pid] = &tiles{}
			signal = 0
		case ws.TrapCause() > 0: // an event
			signal = 0
		case signal == int(syscall.SIGILL):
			done, err := emulate(pid, state)
			if err != nil {
				return 0, err
			}
			if done {
				signal = 0
			}
		}
	}
}

// emulate executes the tile instructions at the place where a thread has stopped, and reports
// whether there is one.
func emulate(pid int, s *tiles) (done bool, err error) {
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(pid, &r); err != nil {
		return false, fmt.Errorf("ptrace: %w", err)
	}
	gp := [16]uint64{r.Rax, r.Rcx, r.Rdx, r.Rbx, r.Rsp, r.Rbp, r.Rsi, r.Rdi, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15}
	var window [256]byte
	code := window[:process(pid).peek(r.Rip, window[:])]
	for {
		i, ok := decode(code)
		if !ok || !done && i.op == prefetch {
			break
		}
		address, stride := i.disp, uint64(0)
		if i.base >= 0 {
			address += gp[i.base]
		}
		if i.index >= 0 {
			stride = gp[i.index] * i.scale
		}
		if i.op == ldtilecfg || i.op == sttilecfg {
			address += stride
		}
		if i.op != prefetch {
			if err := s.execute(i, address, stride, process(pid)); err != nil {
				return false, fmt.Errorf("%s at %#x: %w", i.op, r.Rip, err)
			}
		}
		r.Rip += uint64(i.size)
		code, done = code[i.size:], true
	}
	if !done {
		return false, nil
	}
	if err := syscall.PtraceSetRegs(pid, &r); err != nil {
		return false, fmt.Errorf("ptrace: %w", err)
	}
	return true, nil
}

// process is the memory of a traced process.
type process int

func (p process) read(address, stride uint64, rows [][]byte) error {
	return p.whole("read", processVMReadv, address, stride, rows)
}

func (p process) write(address, stride uint64, rows [][]byte) error {
	return p.whole("written", processVMWritev, address, stride, rows)
}

func (p process) whole(what string, call uintptr, address, stride uint64, rows [][]byte) error {
	if p.transfer(call, address, stride, rows) != len(rows)*len(rows[0]) {
		return fmt.Errorf("%d rows of %d bytes from %#x on, %#x apart, cannot all be %s", len(rows), len(rows[0]), address, stride, what)
	}
	return nil
}

// peek reads what can be read of some bytes, and returns how many.
func (p process) peek(address uint64, b []byte) int {
	return p.transfer(processVMReadv, address, 0, [][]byte{b})
}

// Numbers of system calls that package syscall lacks.
const (
	processVMReadv  = 310
	processVMWritev = 311
)

func (p process) transfer(call uintptr, address, stride uint64, rows [][]byte) int {
	var local [maxRows]syscall.Iovec
	var remote [maxRows]struct{ base, len uint64 }
	for i, r := range rows {
		local[i] = syscall.Iovec{Base: &r[0], Len: uint64(len(r))}
		remote[i].base, remote[i].len = address+uint64(i)*stride, uint64(len(r))
	}
	n, _, errno := syscall.RawSyscall6(call, uintptr(p), uintptr(unsafe.Pointer(&local)), uintptr(len(rows)),
		uintptr(unsafe.Pointer(&remote)), uintptr(len(rows)), 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
