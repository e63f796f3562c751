package pipeline

// This file owns the version of bertc.

import "runtime/debug"

// Version is the version of bertc: that of its module, which for a build in a checkout has the time
// and the commit; else the commit alone; or (devel), where the build has no such information (go run,
// go build -buildvcs=false).
func Version() string {
	b, _ := debug.ReadBuildInfo()
	return version(b)
}

const devel = "(devel)" // the go command's word for no version

func version(b *debug.BuildInfo) string {
	if b == nil {
		return devel
	}
	if v := b.Main.Version; v != "" && v != devel {
		return v
	}
	settings := map[string]string{}
	for _, s := range b.Settings {
		settings[s.Key] = s.Value
	}
	v := settings["vcs.revision"]
	switch {
	case v == "":
		return devel
	case settings["vcs.modified"] == "true":
		return v + "+dirty"
	}
	return v
}
