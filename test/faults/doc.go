// Package faults breaks Redis, and the way to it, under a fleet at work: two real breakerd processes with callers.
//
// Whatever breaks, no caller gets an error or waits, no round has a probe too many, nothing is counted twice, and each
// replica accounts for every outcome that it took. Afterwards the fleet has one breaker again within two seconds.
//
// The tests run a choice of faults, in a minute; with the flag -all, every fault in both modes of consistency.
package faults
