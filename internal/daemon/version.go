package daemon

import "runtime/debug"

// version is set by the linker: -X github.com/breakerd/breakerd/internal/daemon.version=v1.2.3.
var version string

// Version is what the build said; else the version that Go wrote into the binary; else (devel).
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
