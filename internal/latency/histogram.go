package latency

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// buckets is how many buckets a histogram has.
	buckets = 24
	// smallest is the upper bound of the first bucket. Each further bound is twice the one before, up to 524 s; the last
	// bucket has none.
	smallest = 125 * time.Microsecond
)

// bound is the upper bound of a bucket that is not the last one. A call that took exactly so long is in the bucket.
func bound(bucket int) time.Duration { return smallest << bucket }

// bucketOf is the bucket of a call that took d.
func bucketOf(d time.Duration) int {
	return min(bits.Len64(uint64(max(d-1, 0)/smallest)), buckets-1)
}

// histogram counts calls by their durations. It is safe for concurrent use: a call adds to two words.
type histogram struct {
	calls [buckets]atomic.Uint32
	sum   atomic.Int64 // of the durations, in ns
}

func (h *histogram) add(d time.Duration, calls int) {
	h.calls[bucketOf(d)].Add(uint32(calls)) //nolint:gosec // G115: 1, or what a sample stands for
	h.sum.Add(int64(d) * int64(calls))
}

func (h *histogram) clear() {
	for i := range h.calls {
		h.calls[i].Store(0)
	}
	h.sum.Store(0)
}

// addTo adds h to c.
func (h *histogram) addTo(c *Counts) {
	for i := range h.calls {
		c.InBucket[i] += int64(h.calls[i].Load())
	}
	c.Sum += time.Duration(h.sum.Load())
}

// Counts are calls by their durations. Those of several replicas join.
type Counts struct {
	InBucket [buckets]int64
	Sum      time.Duration // of the durations
}

// join adds others.
func (c *Counts) join(others *Counts) {
	for i, n := range others.InBucket {
		c.InBucket[i] += n
	}
	c.Sum += others.Sum
}

// Calls is how many there are.
func (c *Counts) Calls() (n int64) {
	for _, in := range c.InBucket {
		n += in
	}
	return n
}

// Average is exact; 0: there are no calls.
func (c *Counts) Average() time.Duration {
	if n := c.Calls(); n > 0 {
		return c.Sum / time.Duration(n)
	}
	return 0
}

// Percentile estimates how long the fastest p percent of the calls took at most; 0: there are no calls. The estimate
// lies in the bucket of the exact answer: it is more than half and less than twice of that, unless that is below 125 µs
// or above 524 s, which is the greatest answer. If all calls are in one bucket it is their average.
func (c *Counts) Percentile(p float64) time.Duration {
	calls := c.Calls()
	rank := min(max(int64(math.Ceil(float64(calls)*p/100)), 1), calls)
	before := int64(0)
	for i, n := range c.InBucket {
		switch {
		case n == 0 || rank > before+n:
			before += n
		case i == buckets-1:
			return bound(buckets - 2)
		case n == calls:
			return min(c.Average(), bound(i))
		default:
			// As if the calls of the bucket were spread evenly over it; the middle of the rank's part, so that it is inside.
			low := bound(i) / 2
			if i == 0 {
				low = 0
			}
			return low + time.Duration((float64(rank-before)-0.5)/float64(n)*float64(bound(i)-low))
		}
	}
	return 0
}
