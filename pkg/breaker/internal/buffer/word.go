package buffer

import "github.com/breakerd/breakerd/pkg/breaker/machine"

// A word holds a Summary without slow calls and waits: successes 23 bits, failures 16, lead, trail and longest run 8 each, which
// stop at MaxRun as the machine's run does [B6]. Bit 23 is the parity of the generation.
const (
	parityAt   = 23
	failuresAt = 24
	leadAt     = 40
	trailAt    = 48
	maxRunAt   = 56

	wordSuccesses = 1<<parityAt - 1
	wordParity    = 1 << parityAt
	wordFailures  = 1<<(leadAt-failuresAt) - 1
	byteMask      = 1<<8 - 1
	wordTrail     = byteMask << trailAt
)

// withSuccess is word and then a success; ok is false when there is no room.
func withSuccess(word uint64) (after uint64, ok bool) {
	return word&^wordTrail + 1, word&wordSuccesses < wordSuccesses
}

// withFailure is word and then a failure.
func withFailure(word uint64) (after uint64, ok bool) {
	trail := word >> trailAt & byteMask
	if trail < machine.MaxRun {
		trail++
		word += 1 << trailAt
	}
	if trail > word>>maxRunAt {
		word += 1 << maxRunAt
	}
	if word&wordSuccesses == 0 && word>>leadAt&byteMask < machine.MaxRun {
		word += 1 << leadAt
	}
	return word + 1<<failuresAt, word>>failuresAt&wordFailures < wordFailures
}

// isEmpty says whether word holds nothing.
func isEmpty(word uint64) bool { return word&^wordParity == 0 }

// unpack gives the Summary that word holds.
func unpack(word uint64) machine.Summary {
	return machine.Summary{
		Successes: int64(word & wordSuccesses),
		Failures:  int64(word >> failuresAt & wordFailures),
		Lead:      int64(word >> leadAt & byteMask),
		Trail:     int64(word >> trailAt & byteMask),
		MaxRun:    int64(word >> maxRunAt),
	}
}
