//go:build !linux

package e2e

import "os/exec"

// dieWithParent does nothing: only Linux has PR_SET_PDEATHSIG.
func dieWithParent(*exec.Cmd) {}
