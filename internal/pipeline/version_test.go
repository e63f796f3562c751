package pipeline

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	build := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	revision, dirty := debug.BuildSetting{Key: "vcs.revision", Value: "07c3a32"}, debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{build("v1.2.3", revision, dirty), "v1.2.3"},
		{build("(devel)", revision), "07c3a32"},
		{build("", revision, dirty), "07c3a32+dirty"},
		{build("(devel)"), "(devel)"},
		{nil, "(devel)"},
	} {
		if got := version(c.info); got != c.want {
			t.Errorf("%+v: %q, want %q", c.info, got, c.want)
		}
	}
}
