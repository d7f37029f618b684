package buffer

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// stripes count successes, such that goroutines on different cores mostly use different cache lines.
type stripes struct {
	multiplier atomic.Uint64 // odd; of the hash that gives a goroutine its stripe
	shift      uint          // leaves as many bits of the hash as number the stripes
	each       []stripe
	_          [88]byte // no neighbour that is written shares a cache line with these
}

// stripe has a generation in 40 bits, enough for a Take every microsecond for twelve days, and a count in 24.
type stripe struct {
	atomic.Uint64

	_ [56]byte
}

const (
	generationAt  = 24
	stripeCount   = 1<<generationAt - 1
	maxStripes    = 64
	perProcessor  = 4  // stripes, so that two processors seldom use the same one
	stackAt       = 11 // the smallest stack of a goroutine has 2 KB
	firstMultiply = 0x9e3779b97f4a7c15
	nextMultiply  = 0xd1342543de82ef95
)

func newStripes(generation uint64) *stripes {
	n := min(bits.Len(uint(runtime.GOMAXPROCS(0)*perProcessor-1)), bits.Len(maxStripes-1))
	s := &stripes{shift: uint(64 - n), each: make([]stripe, 1<<n)}
	s.multiplier.Store(firstMultiply)
	for i := range s.each {
		s.each[i].Store(generation << generationAt)
	}
	return s
}

// success counts a success if it commutes. The package comment proves the order of its three steps.
func (s *stripes) success(word *atomic.Uint64) bool {
	for range 2 {
		stripe := s.current()
		old := stripe.Load()
		w := word.Load()
		if w&wordTrail != 0 || w&wordSuccesses == 0 || (old>>generationAt^w>>parityAt)&1 != 0 ||
			old&stripeCount == stripeCount {
			return false
		}
		if stripe.CompareAndSwap(old, old+1) {
			return true
		}
	}
	// Goroutines on two cores use one stripe. With another hash they probably do not.
	m := s.multiplier.Load()
	s.multiplier.CompareAndSwap(m, m*nextMultiply)
	return false
}

// current returns a stripe for the calling goroutine, by the address of its stack. Any stripe would be right.
func (s *stripes) current() *stripe {
	var onStack byte
	at := uintptr(unsafe.Pointer(&onStack)) //nolint:gosec // a number to hash, which nobody dereferences
	return &s.each[uint64(at)>>stackAt*s.multiplier.Load()>>s.shift]
}

// drain empties the stripes, begins a generation, and returns the successes of the one before.
func (s *stripes) drain(generation uint64) (successes int64) {
	for i := range s.each {
		successes += int64(s.each[i].Swap(generation<<generationAt) & stripeCount)
	}
	return successes
}

func (s *stripes) sum() (successes int64) {
	for i := range s.each {
		successes += int64(s.each[i].Load() & stripeCount)
	}
	return successes
}
