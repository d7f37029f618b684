package machine

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
	RetryMaxMs                        int64 // caps an upstream's Retry-After [B22]
}

// Million is how shares and rates are scaled to integers.
const Million = 1_000_000
