//go:build !windows

package rt

import "time"

var started = time.Now()

// clock returns the time since some moment.
func clock() time.Duration { return time.Since(started) }
