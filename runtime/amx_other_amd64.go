//go:build amd64 && !linux

package rt

// permitAMX reports whether tile data may be used; only Linux is known to grant it.
func permitAMX() bool { return false }
