//go:build !linux

package testkit

import "os/exec"

// dieWithParent does nothing: only Linux has PR_SET_PDEATHSIG.
func dieWithParent(*exec.Cmd) {}
