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
//
// The fields are those of breaker.Policy, and breaker.Policy.Params makes them. A field …PPM is a fraction in
// millionths, …Ms a duration in milliseconds. 0 is off where the policy has breaker.Off.
type Params struct {
	Enabled, Observe                  bool  // Policy.Disabled is false; Policy.Mode is observe [B21]
	FailureThreshold                  int64 // consecutive failures that open [B6]; 0: off
	FailureRatePPM, MinimumCalls      int64 // the failure rate that opens, and from how many calls on [B7]
	WindowMs, TimeoutMs, TimeoutMaxMs int64 // the window [B9]; the first wait and the longest [B10]
	MultiplierMilli, JitterPPM        int64 // the wait's multiplier in thousandths, and its jitter [B10]
	MaxCalls, Need                    int64 // probes of a round [B12], and how many of them close [B13]
	ProbeTimeoutMs                    int64 // life of a lease without renewal [B12]
	AbandonedFails                    bool  // an abandoned probe counts as failed [B12]
	SlowRatePPM                       int64 // the slow rate that opens [B8]
	RampMs, RampFloorPPM              int64 // length of the ramp after closing, and its first share [B16]
	RetryExtends, RetryOpens          bool  // what an upstream's Retry-After does; neither: nothing [B22]
	TrackReporters                    bool  // the policy wants more than one reporter [B23]
	Reporters                         int64 // how many a trip needs: min(K, live replicas) [B23]
	TTLMs                             int64 // how long the keys outlive the last operation [B25]
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

// Bucket is the start of the bucket in which an agent's outcome of that moment counts [B9].
func (p Params) Bucket(agent string, nowMs int64) int64 { return p.bucketAt(nowMs, p.Shift(agent)) }

func (p Params) bucketAt(nowMs, shiftMs int64) int64 {
	width := p.bucketMs()
	return nowMs - ((nowMs-shiftMs)%width+width)%width
}

// bucketMs is the width of a bucket [B9].
func (p Params) bucketMs() int64 { return (p.WindowMs + buckets - 1) / buckets }
