// Package buffer joins the outcomes of one agent in one closed epoch until they are sent [B5]. It knows machine.Summary and nothing
// else of the breaker.
//
// # Order
//
// Outcomes join in the order in which they come. A plain outcome is one compare-and-swap on a word, which a success makes without
// the lock. When successes on several cores contend for the word, those that change nothing but the count of successes move to
// stripes, one word of a cache line each. Only they commute: the word holds a success already, and no failure after it. A success
// reads that from the word, so the first success after a failure, or after Take, goes through the word, as every failure does.
//
// A success in a stripe belongs to the record that carries the word it has read. Take closes the word and then the stripes, each
// with a new generation. A success loads its stripe, loads the word, and then swaps the stripe. If the swap succeeds, the stripe
// had one generation meanwhile, say g; that of the word was g or, during a Take, g+1, which its parity tells apart. So when the
// word was read, the success stood in generation g, behind a success and with no failure between: there it changes nothing but the
// count, whatever has joined the word since.
package buffer

import (
	"sync"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Buffer holds outcomes until Take. The zero value is empty. It is safe for concurrent use, and must not be copied.
type Buffer struct {
	mu         sync.Mutex
	pending    []machine.Summary // came before what is in word and stripes; each is one record
	generation uint64            // of word and stripes
	run        int64             // of failures, as SetRun said, and what Take has given makes of that [B6]

	_       [64]byte // word has a cache line of its own, with the pointer that is read beside it
	word    atomic.Uint64
	stripes atomic.Pointer[stripes] // nil until callers contend
	_       [48]byte
}

// Success joins a plain success. first says that the word was empty: nobody else has told of what it holds.
func (b *Buffer) Success() (first bool) {
	if b.stripes.Load() == nil {
		old := b.word.Load()
		if after, ok := withSuccess(old); ok && b.word.CompareAndSwap(old, after) {
			return isEmpty(old)
		}
	}
	return b.contended()
}

// contended is Success where callers contend, or have done so.
func (b *Buffer) contended() (first bool) {
	for {
		s := b.stripes.Load()
		if s != nil && s.success(&b.word) {
			return false
		}
		old := b.word.Load()
		after, ok := withSuccess(old)
		switch {
		case !ok:
			b.Add(machine.Summary{}, 0)
		case b.word.CompareAndSwap(old, after):
			return isEmpty(old)
		case s == nil: // the second miss: no chance
			b.stripe()
		}
	}
}

// Failure joins a plain failure. first says that the word held none. reaches says that the failures in a row, after the run that
// was known before, reach the threshold with it [B6]; 0: there is none.
func (b *Buffer) Failure(threshold int64) (first, reaches bool) {
	b.mu.Lock() // run and word are of one moment
	defer b.mu.Unlock()
	for {
		old := b.word.Load()
		after, ok := withFailure(old)
		switch {
		case !ok:
			b.spill(machine.Summary{})
		case b.word.CompareAndSwap(old, after):
			return old>>failuresAt&wordFailures == 0, b.trips(b.spilled().Join(unpack(after)), threshold)
		}
	}
}

// Add joins outcomes that are not plain: slow calls, upstream waits, or what another Buffer held. reaches is as for Failure.
func (b *Buffer) Add(s machine.Summary, threshold int64) (reaches bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spill(s)
	return b.trips(b.spilled(), threshold)
}

// maxPending bounds the records that one agent's outcomes are kept apart in.
const maxPending = 16

// spill moves what word and stripes hold, and then s, to pending; under mu. What follows an upstream wait is a record of its own:
// what a success after it does depends on the policy, which no joined Summary could tell [B22].
func (b *Buffer) spill(s machine.Summary) {
	s = b.close().Join(s)
	n := len(b.pending)
	switch {
	case s.Calls() == 0:
	case n > 0 && (b.pending[n-1].WaitMs == 0 || n == maxPending):
		b.pending[n-1] = b.pending[n-1].Join(s)
	default:
		b.pending = append(b.pending, s)
	}
}

// close empties word and stripes, and begins a generation; under mu.
func (b *Buffer) close() machine.Summary {
	b.generation++
	s := unpack(b.word.Swap(b.generation & 1 << parityAt))
	if stripes := b.stripes.Load(); stripes != nil {
		s.Successes += stripes.close(b.generation)
	}
	return s
}

// spilled is pending, joined; under mu.
func (b *Buffer) spilled() (s machine.Summary) {
	for _, p := range b.pending {
		s = s.Join(p)
	}
	return s
}

// stripe spreads the successes from now on.
func (b *Buffer) stripe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stripes.Load() == nil {
		b.stripes.Store(newStripes(b.generation))
	}
}

// Take gives what the next record should carry; the zero Summary: nothing is left.
func (b *Buffer) Take() (s machine.Summary) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spill(machine.Summary{})
	if len(b.pending) > 0 {
		s = b.pending[0]
		b.pending = append(b.pending[:0], b.pending[1:]...)
	}
	if s.Successes > 0 {
		b.run = s.Trail
	} else {
		b.run += s.Failures
	}
	return s
}

// Records is how many records it takes to send what the Buffer holds.
func (b *Buffer) Records() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.pending)
	if !isEmpty(b.word.Load()) && (n == 0 || b.pending[n-1].WaitMs > 0) {
		n++
	}
	return n
}

// Sum is all that the Buffer holds, joined.
func (b *Buffer) Sum() machine.Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum()
}

// sum is Sum; under mu.
func (b *Buffer) sum() machine.Summary {
	var striped int64
	if stripes := b.stripes.Load(); stripes != nil { // before the word, which then holds the success that they stand behind
		striped = stripes.sum()
	}
	held := unpack(b.word.Load())
	held.Successes += striped
	return b.spilled().Join(held)
}

// SetRun says how many failures in a row stand before what the Buffer holds, as the store last counted them.
func (b *Buffer) SetRun(failures int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run = failures
}

// Reaches says whether the failures in a row that the Buffer holds, after those known before, reach the threshold [B6]; 0: there is
// none.
func (b *Buffer) Reaches(threshold int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trips(b.sum(), threshold)
}

// trips is Reaches, of s; under mu.
func (b *Buffer) trips(s machine.Summary, threshold int64) bool {
	return threshold > 0 && max(b.run+s.Lead, s.MaxRun) >= threshold
}
