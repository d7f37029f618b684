// Package buffer joins the outcomes of one agent in one closed epoch until they are sent [B5]. Of the breaker it knows
// only [machine.Summary].
//
// # Order
//
// A Buffer joins outcomes in the order in which they are added. A plain outcome, which is not slow and has no
// Retry-After, is one compare-and-swap of a word that packs a Summary; for a success no lock is taken.
//
// When goroutines on several cores contend for the word, successes are counted in stripes, each in a cache line of its
// own. That is right only for a success that commutes with the outcomes around it, for it changes nothing but the
// number of successes: the word has a success already, and no failure after it. So the first success after a failure or
// after Take goes to the word, as each failure does.
//
// A success in a stripe must become part of the record that also has the word that it saw. Take empties the word and
// then the stripes, and marks each with a new generation. A success (1) loads its stripe, (2) loads the word, and (3)
// swaps the stripe. If the swap succeeds, the stripe was in one generation g from (1) to (3). At (2) the word was in
// generation g, or in g+1 if a Take had come to the word but not yet to the stripe; their parities agree only in the
// first case, and only then is the stripe swapped. So in generation g the word had a success, and no failure after it:
// there the success commutes, whatever was added since.
package buffer

import (
	"sync"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Buffer holds outcomes until Take. The zero value is empty. It is safe for concurrent use, and must not be copied.
type Buffer struct {
	mu         sync.Mutex
	pending    []machine.Summary // each becomes one record; they came before what the word and the stripes hold
	generation uint64            // of the word and the stripes; incremented by drain
	run        int64             // of failures before the outcomes in the Buffer [B6]

	_       [64]byte // the word and the pointer beside it have a cache line of their own
	word    atomic.Uint64
	stripes atomic.Pointer[stripes] // nil until goroutines contend
	_       [48]byte
}

// Success adds a plain success. first: the word was empty, so this caller has to enqueue the Buffer.
func (b *Buffer) Success() (first bool) {
	if b.stripes.Load() == nil {
		old := b.word.Load()
		if after, ok := withSuccess(old); ok && b.word.CompareAndSwap(old, after) {
			return isEmpty(old)
		}
	}
	return b.successContended()
}

// successContended is Success once goroutines contend, or have contended, for the word.
func (b *Buffer) successContended() (first bool) {
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
		case s == nil:
			b.makeStripes()
		}
	}
}

// Failure adds a plain failure. first: the word had no failure, so this caller has to enqueue the Buffer. run: the
// failures in a row, with this one. reaches: they reach the threshold [B6]. A threshold of 0 is never reached.
func (b *Buffer) Failure(threshold int64) (first bool, run int64, reaches bool) {
	b.mu.Lock() // Take, which moves failures from the word to run, must not come between the two
	defer b.mu.Unlock()
	for {
		old := b.word.Load()
		after, ok := withFailure(old)
		switch {
		case !ok:
			b.spill(machine.Summary{})
		case b.word.CompareAndSwap(old, after):
			s := b.joinPending().Join(unpack(after))
			return old>>failuresAt&wordFailures == 0, b.runAfter(s), b.reaches(s, threshold)
		}
	}
}

// Add adds outcomes that are not plain, or that another Buffer held. run and reaches are as for Failure.
func (b *Buffer) Add(s machine.Summary, threshold int64) (run int64, reaches bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spill(s)
	s = b.joinPending()
	return b.runAfter(s), b.reaches(s, threshold)
}

// maxPending bounds the records of one Buffer. Further outcomes are joined with the last one.
const maxPending = 16

// spill moves the word and the stripes to pending, and then s. After an outcome with a Retry-After it begins another
// record: whether a success clears the wait depends on the policy, and a joined Summary does not have their order
// [B22]. Callers hold mu.
func (b *Buffer) spill(s machine.Summary) {
	s = b.drain().Join(s)
	n := len(b.pending)
	switch {
	case s.Calls() == 0:
	case n > 0 && (b.pending[n-1].WaitMs == 0 || n == maxPending):
		b.pending[n-1] = b.pending[n-1].Join(s)
	default:
		b.pending = append(b.pending, s)
	}
}

// drain empties the word and then the stripes, and begins a generation. Callers hold mu.
func (b *Buffer) drain() machine.Summary {
	b.generation++
	s := unpack(b.word.Swap(b.generation & 1 << parityAt))
	if stripes := b.stripes.Load(); stripes != nil {
		s.Successes += stripes.drain(b.generation)
	}
	return s
}

// joinPending returns pending as one Summary. Callers hold mu.
func (b *Buffer) joinPending() (s machine.Summary) {
	for _, p := range b.pending {
		s = s.Join(p)
	}
	return s
}

func (b *Buffer) makeStripes() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stripes.Load() == nil {
		b.stripes.Store(newStripes(b.generation))
	}
}

// Take removes and returns the outcomes of the next record. The zero Summary means that the Buffer is empty.
func (b *Buffer) Take() (s machine.Summary) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spill(machine.Summary{})
	if len(b.pending) > 0 {
		s = b.pending[0]
		b.pending = append(b.pending[:0], b.pending[1:]...)
	}
	b.run = b.runAfter(s)
	return s
}

// runAfter returns the failures in a row after the outcomes in s, which are next. Callers hold mu.
func (b *Buffer) runAfter(s machine.Summary) int64 {
	if s.Successes > 0 {
		return s.Trail
	}
	return b.run + s.Failures
}

// Records returns how many times Take returns outcomes, if none are added.
func (b *Buffer) Records() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.pending)
	if !isEmpty(b.word.Load()) && (n == 0 || b.pending[n-1].WaitMs > 0) {
		n++
	}
	return n
}

// Sum returns all outcomes as one Summary.
func (b *Buffer) Sum() machine.Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum()
}

// sum is Sum. Callers hold mu.
func (b *Buffer) sum() machine.Summary {
	var striped int64
	if stripes := b.stripes.Load(); stripes != nil { // before the word, which then has the success that they follow
		striped = stripes.sum()
	}
	s := unpack(b.word.Load())
	s.Successes += striped
	return b.joinPending().Join(s)
}

// SetRun sets the failures in a row before the outcomes in the Buffer, as the store has counted them.
func (b *Buffer) SetRun(failures int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run = failures
}

// Reaches reports whether the failures in a row reach the threshold [B6]. A threshold of 0 is never reached.
func (b *Buffer) Reaches(threshold int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reaches(b.sum(), threshold)
}

// reaches is Reaches for the outcomes in s. Callers hold mu.
func (b *Buffer) reaches(s machine.Summary, threshold int64) bool {
	return threshold > 0 && max(b.run+s.Lead, s.MaxRun) >= threshold
}
