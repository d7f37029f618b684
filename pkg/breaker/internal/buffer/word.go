package buffer

import "github.com/breakerd/breakerd/pkg/breaker/machine"

// A word packs a Summary without slow calls and Retry-After: 23 bits of successes, 16 of failures, and 8 each of the
// runs Lead, Trail and MaxRun, which stop at machine.MaxRun as in the machine [B6]. Bit 23 is the parity of the
// generation.
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

// withSuccess returns word with a success added; ok is false if the word is full.
func withSuccess(word uint64) (after uint64, ok bool) {
	return word&^wordTrail + 1, word&wordSuccesses < wordSuccesses
}

// withFailure returns word with a failure added; ok is as for withSuccess.
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

// isEmpty reports whether word has no outcome.
func isEmpty(word uint64) bool { return word&^wordParity == 0 }

// unpack returns the Summary in word.
func unpack(word uint64) machine.Summary {
	return machine.Summary{
		Successes: int64(word & wordSuccesses),
		Failures:  int64(word >> failuresAt & wordFailures),
		Lead:      int64(word >> leadAt & byteMask),
		Trail:     int64(word >> trailAt & byteMask),
		MaxRun:    int64(word >> maxRunAt),
	}
}
