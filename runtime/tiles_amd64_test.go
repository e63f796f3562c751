package rt

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// tiles is for the run of the test under the emulator.
var tiles = flag.Bool("tiles", false, "execute tile instructions although the CPU has none")

// TestTilesWork: the products that are tried when a model is opened are right, on AMX or under its
// emulator; and other tiles are found wrong.
func TestTilesWork(t *testing.T) {
	if *tiles || len(missing([]string{"AMX_TILE", "AMX_BF16"})) == 0 {
		if fault := selfTest([]string{"AMX_BF16", "AMX_INT8"}); fault != "" {
			t.Error(fault)
		}
		if tilesWork(1, tileBF16) || tilesWork(2, tileInt8) {
			t.Error("products of another type are right")
		}
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("SKIP: the emulator of AMX runs on Linux")
	}
	emulator := filepath.Join(t.TempDir(), "amxemu")
	if out, err := exec.Command("go", "build", "-o", emulator, "../internal/amxemu").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.Command(emulator, os.Args[0], "-test.run=^TestTilesWork$", "-tiles").CombinedOutput()
	if strings.Contains(string(out), "operation not permitted") {
		t.Skipf("SKIP: a program cannot be traced here: %s", out)
	}
	if err != nil {
		t.Errorf("under the emulator: %v\n%s", err, out)
	}
}
