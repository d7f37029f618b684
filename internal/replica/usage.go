package replica

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// usage measures how much of the machine this process uses. Its zero value is usable.
type usage struct {
	mu    sync.Mutex
	at    time.Time // of the measurement before; zero: there was none
	spent time.Duration
	last  float64
}

// usageOver is the shortest time over which a share is measured: over less, it says nothing.
const usageOver = time.Second

// share is the share of the CPUs which this process may use that it has used since the measurement before, of 1.
func (u *usage) share() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, spent := time.Now(), cpuTime()
	passed := now.Sub(u.at)
	switch {
	case u.at.IsZero():
		u.at, u.spent = now, spent
	case passed >= usageOver:
		share := float64(spent-u.spent) / float64(passed) / float64(runtime.GOMAXPROCS(0))
		u.last = math.Round(min(max(share, 0), 1)*1000) / 1000
		u.at, u.spent = now, spent
	}
	return u.last
}

// memoryUse is the memory that counts for GOMEMLIMIT, in bytes.
func memoryUse() int64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64()) //nolint:gosec // a process has less than 2^63
}

// memoryLimit is GOMEMLIMIT, which programs of ours set to a share of the cgroup's limit; 0: there is none.
func memoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 { // it reads the limit
		return limit
	}
	return 0
}
