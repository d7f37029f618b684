package machine

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
)

// Million is the scale of shares and rates. A field …PPM counts millionths.
const Million = 1_000_000

// Params is a policy as the machine reads it. It holds integers only, so that Go and Lua compute the same to the last
// digit.
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
	Reporters                         int64 // how many a trip needs: min(K, live replicas) [B23]
	TTLMs                             int64
	RetryMaxMs                        int64 // the longest upstream wait that is believed [B22]
	HistoryMinutes                    int64 // how far :history goes back; 0: none is kept
}

// Rule identifies the parameters on which cached sums depend, as a decimal number below 2^63, which Redis keeps in nine
// bytes. Sums that were cached under another rule are not used.
func (p Params) Rule() string {
	track := int64(0)
	if p.TrackReporters {
		track = 1
	}
	h := fnv.New64a()
	for _, n := range []int64{
		p.WindowMs, p.TTLMs, p.FailureThreshold, p.FailureRatePPM, p.MinimumCalls, p.SlowRatePPM, track,
	} {
		_ = binary.Write(h, binary.LittleEndian, n) // a hash accepts every write
	}
	return strconv.FormatUint(h.Sum64()>>1, 10)
}

// Shift is by how much the agent's buckets start later than at multiples of their width, so that the agents of a fleet
// do not all begin a bucket at the same instant [B9]: FNV-1a-64 of the name, modulo the width.
func (p Params) Shift(agent string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(agent))                  // a hash accepts every write
	return int64(h.Sum64() % uint64(p.bucketMs())) //nolint:gosec // less than the width
}

// bucketMs is the width of a bucket [B9].
func (p Params) bucketMs() int64 { return (p.WindowMs + buckets - 1) / buckets }
