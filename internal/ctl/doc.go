// Package ctl is breakerctl: commands over package client.
//
// A command is a method of [cli] that returns a [cobra.Command], in the file of its noun, listed in [cli.root]. Its
// RunE asks the server through [cli.client], and hands what it got to [cli.print] as an [output], which knows every
// format. It returns an error, which [failureOf] explains, or [conclude] where all is printed and the exit code is not
// 0. A command that changes something begins with [cli.change], which asks whoever types, and refuses in a context that
// is read only. Words for people go through [cli.tellf]; stdout has data alone.
//
// Scripts in testdata/script run a command as it is typed, against real processes.
package ctl
