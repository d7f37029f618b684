// Package demo is the demo agent: an HTTP agent for demonstrations and tests, which can be healthy, slow, flaky,
// failing and worse, and is switched while it runs. One process serves many agents: the first segment of the path is
// the agent's name, the method and the rest of the path are free.
//
// modes.go has the modes and their settings, agents.go which agent is in which mode, behave.go the answers, control.go
// the API that switches modes, program.go the command.
package demo
