package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program is run by TestTrace. Its functions are in programText.
const program = `package main

import (
	"os"
	"sync"
)

func unconfigured()
func undefined()
func outside()
func release()

func main() {
	switch os.Args[1] {
	case "status":
		os.Stdout.WriteString("hello " + os.Args[2])
		os.Exit(3)
	case "threads":
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 200 {
					release()
				}
			})
		}
		wg.Wait()
	case "unconfigured":
		unconfigured()
	case "undefined":
		undefined()
	case "outside":
		outside()
	}
}
`

const programText = `#include "textflag.h"

TEXT ·unconfigured(SB), NOSPLIT, $0-0
	LONG $0x497be2c4; BYTE $0xc0 // tilezero %tmm0
	RET

TEXT ·undefined(SB), NOSPLIT, $0-0
	WORD $0x0b0f // ud2
	RET

TEXT ·outside(SB), NOSPLIT, $0-0
	MOVQ $64, AX
	LONG $0x4978e2c4; BYTE $0x00 // ldtilecfg (%rax)
	RET

TEXT ·release(SB), NOSPLIT, $0-0
	LONG $0x4978e2c4; BYTE $0xc0 // tilerelease
	RET
`

// TestTrace runs a program under amxemu: its input, output and status pass through, threads that it
// starts are traced, and what is no tile instruction stays an error of the program.
func TestTrace(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module program\n\ngo 1.26\n", "main.go": program, "main_amd64.s": programText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	emulator, exe := filepath.Join(dir, "amxemu"), filepath.Join(dir, "program")
	build := func(dir, to string) {
		cmd := exec.Command("go", "build", "-o", to, ".")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	build(".", emulator)
	build(dir, exe)
	if out, err := exec.Command(emulator, emulator).CombinedOutput(); !strings.Contains(string(out), "usage") {
		t.Skipf("SKIP: a program cannot be traced here: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		arg, out, stderr string
		status           int
	}{
		{"status", "hello you", "", 3},
		{"threads", "", "", 0},
		{"unconfigured", "", "TILEZERO at 0x", 1},
		{"unconfigured", "", "#UD: no tiles are configured", 1},
		{"outside", "", "LDTILECFG at 0x", 1},
		{"undefined", "", "SIGILL: illegal instruction", 2}, // the Go runtime's
	} {
		cmd := exec.Command(emulator, exe, tt.arg, "you")
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		err := cmd.Run()
		status := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		if status != tt.status || out.String() != tt.out || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%s: status %d, output %q, errors %q; want %+v", tt.arg, status, out.String(), stderr.String(), tt)
		}
	}
	if out, err := exec.Command(emulator).CombinedOutput(); err == nil || !strings.Contains(string(out), "usage") {
		t.Errorf("without a program: %v, %s", err, out)
	}
}
