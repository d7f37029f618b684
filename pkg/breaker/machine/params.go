package machine

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
)

// Params is a policy as the machine reads it, in Go and in Lua alike: integers only, milliseconds and millionths,
// so that both compute the same to the last digit.
type Params struct {
	Enabled, Observe                  bool
	FailureThreshold                  int64
	FailureRatePPM, MinimumCalls      int64
	WindowMs, TimeoutMs, TimeoutMaxMs int64
	MultiplierMilli, JitterPPM        int64
	MaxCalls, Need                    int64
	ProbeTimeoutMs                    int64
	AbandonedFails                    bool
	SlowRatePPM                       int64
	RampMs, RampFloorPPM              int64
	RetryExtends, RetryOpens          bool
	TrackReporters                    bool
	Reporters                         int64 // how many a trip needs, already min(K, live replicas) [B23]
	TTLMs                             int64
	RetryMaxMs                        int64 // the longest upstream wait that is believed [B22]
	HistoryMinutes                    int64 // how long :history goes back; 0: none is kept
}

// Million is how shares and rates are scaled to integers.
const Million = 1_000_000

// Rule stands for what the cached sums depend on: a number below 2^63 in decimal digits, which Redis keeps in nine bytes. Sums are
// cached for one rule only.
func (p Params) Rule() string {
	track := int64(0)
	if p.TrackReporters {
		track = 1
	}
	h := fnv.New64a()
	for _, n := range []int64{p.WindowMs, p.TTLMs, p.FailureThreshold, p.FailureRatePPM, p.MinimumCalls, p.SlowRatePPM, track} {
		_ = binary.Write(h, binary.LittleEndian, n) // a hash takes everything
	}
	return strconv.FormatUint(h.Sum64()>>1, 10)
}

// width is the length of a bucket in ms [B9].
func (p Params) width() int64 { return (p.WindowMs + buckets - 1) / buckets }

// Shift is by how much the buckets of that agent begin later than those of a name that hashes to 0, so that a fleet's agents do not
// all begin a bucket at the same instant [B9]: FNV-1a-64 of the name, modulo the width of a bucket.
func (p Params) Shift(agent string) int64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(agent) {
		h = (h ^ uint64(agent[i])) * prime
	}
	return int64(h % uint64(p.width())) //nolint:gosec // less than the width
}
