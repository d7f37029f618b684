// Package buffer joins the outcomes of one agent in one closed epoch until they are sent [B5]. It knows machine.Summary and nothing
// else of the breaker.
//
// Outcomes join in the order in which they come: a plain success by one compare-and-swap on a word, without the lock.
package buffer

import (
	"sync"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Buffer holds outcomes until Take. The zero value is empty. It is safe for concurrent use, and must not be copied.
type Buffer struct {
	mu      sync.Mutex
	pending []machine.Summary // came before what is in word; each is one record
	run     int64             // of failures, as SetRun said, and what Take has given makes of that [B6]

	_    [64]byte // word has a cache line of its own
	word atomic.Uint64
	_    [56]byte
}

// Success joins a plain success. first says that the word was empty: nobody else has told of what it holds.
func (b *Buffer) Success() (first bool) {
	for {
		old := b.word.Load()
		after, ok := withSuccess(old)
		switch {
		case !ok:
			b.Add(machine.Summary{}, 0)
		case b.word.CompareAndSwap(old, after):
			return old == 0
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

// spill moves what word holds, and then s, to pending; under mu. What follows an upstream wait is a record of its own:
// what a success after it does depends on the policy, which no joined Summary could tell [B22].
func (b *Buffer) spill(s machine.Summary) {
	s = unpack(b.word.Swap(0)).Join(s)
	n := len(b.pending)
	switch {
	case s.Calls() == 0:
	case n > 0 && (b.pending[n-1].WaitMs == 0 || n == maxPending):
		b.pending[n-1] = b.pending[n-1].Join(s)
	default:
		b.pending = append(b.pending, s)
	}
}

// spilled is pending, joined; under mu.
func (b *Buffer) spilled() (s machine.Summary) {
	for _, p := range b.pending {
		s = s.Join(p)
	}
	return s
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
	if b.word.Load() != 0 && (n == 0 || b.pending[n-1].WaitMs > 0) {
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
	return b.spilled().Join(unpack(b.word.Load()))
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
