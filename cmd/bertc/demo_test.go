package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"
)

// TestDemoInterrupted stops the demo while the go command builds its package: nothing is left of either.
func TestDemoInterrupted(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			// At the top, or in the directory of the driver.
			for _, pattern := range []string{"go-build*", "*/go-build*"} {
				if found, _ := filepath.Glob(filepath.Join(tmp, pattern, "b*")); len(found) > 0 {
					stop()
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	c := root()
	c.SetArgs([]string{"demo"})
	c.SetOut(io.Discard)
	if err := c.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	nothingIn(t, tmp)
}
