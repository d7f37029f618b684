// Package version says what the programs call themselves.
package version

import "runtime/debug"

// String is the tag or commit that Go wrote into the binary, or (devel).
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
