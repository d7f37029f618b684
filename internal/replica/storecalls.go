package replica

import (
	"slices"
	"sync"
	"time"
)

// storeCalls keeps how long the newest calls of the store took, and its last error.
type storeCalls struct {
	mu     sync.Mutex
	took   [storeCallsKept]time.Duration
	calls  int // that were ever made
	last   error
	lastAt time.Time
}

// storeCallsKept is enough for a 99th percentile that more than ten calls support.
const storeCallsKept = 1024

func (c *storeCalls) note(took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took[c.calls%storeCallsKept] = took
	c.calls++
	if err != nil {
		c.last, c.lastAt = err, time.Now()
	}
}

// percentiles are the median and the 99th percentile; 0: no call was made.
func (c *storeCalls) percentiles() (p50, p99 time.Duration) {
	c.mu.Lock()
	kept := slices.Clone(c.took[:min(c.calls, storeCallsKept)])
	c.mu.Unlock()
	if len(kept) == 0 {
		return 0, 0
	}
	slices.Sort(kept)
	return kept[len(kept)/2], kept[len(kept)*99/100]
}

// lastError is the text of the last error, and when it was; "": there was none.
func (c *storeCalls) lastError() (text string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return "", time.Time{}
	}
	return c.last.Error(), c.lastAt
}
