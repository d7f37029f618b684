// Package demo is the demo agent: a small HTTP agent for demonstrations and tests, which can be healthy, slow, flaky, failing and
// worse, and be switched while it runs. One process plays many agents: the first segment of the path is the agent's name, the
// method and the rest of the path are free.
//
// The machine: modes.go says which modes there are and what they take, agents.go remembers who is in which, behave.go answers
// calls, control.go switches, program.go is the program around it.
package demo
