package buffer

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// stripes count successes beside the word, apart for goroutines on different cores.
type stripes struct {
	multiplier atomic.Uint64 // odd; of the hash that gives a goroutine its stripe
	shift      uint          // keeps as many bits of the hash as number the stripes
	each       []stripe
	_          [88]byte // all is only read: no neighbour shares its cache lines
}

// stripe is a generation (40 bits, enough for a Take every microsecond for twelve days) and a count of 24.
type stripe struct {
	atomic.Uint64

	_ [56]byte
}

const (
	generationAt  = 24
	stripeCount   = 1<<generationAt - 1
	maxStripes    = 64
	perProcessor  = 4  // stripes, so that few processors meet on one
	stackAt       = 11 // the smallest stack of a goroutine is 2 KB
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

// success joins a success if it commutes with all that are under way; the package's comment proves the order of the three steps.
func (s *stripes) success(word *atomic.Uint64) bool {
	for range 2 {
		stripe := s.mine()
		old := stripe.Load()
		w := word.Load()
		if w&wordTrail != 0 || w&wordSuccesses == 0 || (old>>generationAt^w>>parityAt)&1 != 0 || old&stripeCount == stripeCount {
			return false
		}
		if stripe.CompareAndSwap(old, old+1) {
			return true
		}
	}
	// Two goroutines on two cores have one stripe: another hash parts them, probably.
	m := s.multiplier.Load()
	s.multiplier.CompareAndSwap(m, m*nextMultiply)
	return false
}

// mine is the stripe of the calling goroutine, by where its stack is. That is a hint: any stripe is right.
func (s *stripes) mine() *stripe {
	var here byte
	at := uintptr(unsafe.Pointer(&here)) //nolint:gosec // a number to hash; nobody follows it
	return &s.each[uint64(at)>>stackAt*s.multiplier.Load()>>s.shift&uint64(len(s.each)-1)]
}

// close begins a generation, and gives the successes of the one before.
func (s *stripes) close(generation uint64) (successes int64) {
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
