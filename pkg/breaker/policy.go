package breaker

import (
	"fmt"
	"math"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Mode says whether a breaker refuses calls, or only says that it would [B21].
type Mode string

// The modes. Enforce is the default.
const (
	// Enforce refuses the calls that the breaker does not admit.
	Enforce Mode = "enforce"
	// Observe admits every call. [Permit.WouldRefuse] says which ones Enforce would have refused; states change as if
	// they had been.
	Observe Mode = "observe"
)

// AbandonedProbe says what becomes of a probe whose lease lapsed before its outcome was reported [B12].
type AbandonedProbe string

// What becomes of an abandoned probe. ReleaseAbandoned is the default.
const (
	// ReleaseAbandoned gives the probe's place in the round to another call.
	ReleaseAbandoned AbandonedProbe = "release"
	// FailAbandoned counts the probe as failed.
	FailAbandoned AbandonedProbe = "failure"
)

// RetryAfter says what a breaker does when an agent fails a call and asks its callers to wait: by a header Retry-After,
// or by [Outcome].RetryAfter [B22]. At most Policy.RetryAfterMax counts.
type RetryAfter string

// What an agent's Retry-After does. RetryAfterExtend is the default.
const (
	// RetryAfterIgnore: nothing.
	RetryAfterIgnore RetryAfter = "ignore"
	// RetryAfterExtend: if the breaker opens before that time is over, it stays open at least until then.
	RetryAfterExtend RetryAfter = "extend"
	// RetryAfterOpen: the breaker opens at once, and stays open at least until then.
	RetryAfterOpen RetryAfter = "open"
)

// OnStoreError says how a [Fallback] answers while the store is down. Without a Fallback it means nothing.
type OnStoreError string

// How a Fallback answers while the store is down. OnStoreErrorLocal is the default.
const (
	// OnStoreErrorLocal decides by the same rules from a breaker in this process's memory.
	OnStoreErrorLocal OnStoreError = "local"
	// OnStoreErrorAllow admits every call, and counts none.
	OnStoreErrorAllow OnStoreError = "allow"
	// OnStoreErrorDeny refuses every call, with ReasonStoreUnavailable.
	OnStoreErrorDeny OnStoreError = "deny"
)

// Consistency says whether calls may be admitted without asking the store.
type Consistency string

// The modes of consistency. Strict is the default.
const (
	// Strict asks the store for every permit and reports every outcome to it: one round trip each.
	Strict Consistency = "strict"
	// Cached admits the calls of a closed breaker from memory, for Options.MaxStaleness after the store's last answer at
	// most, and sends outcomes joined, after Options.FlushInterval. So some calls still pass after another replica has
	// opened the breaker.
	Cached Consistency = "cached"
)

// Off turns off a setting whose zero value means its default: FailureThreshold, FailureRateThreshold, RampFloor,
// Abandoned or ProbeSettle.
const Off = -1

// Policy configures the breaker of one agent. A zero field means its default, so the zero Policy is [DefaultPolicy].
// Durations are whole milliseconds of at most [MaxDuration]. Rates and fractions go from 0 to 1 and count to a
// millionth, TimeoutMultiplier to a thousandth. What is out of bounds is a [*PolicyError].
type Policy struct {
	// Disabled admits every call and records none, except under a hold [B21].
	Disabled bool

	// FailureThreshold is how many failures in a row open the breaker [B6]: 1 to 255, or [Off]. 0: 5.
	FailureThreshold int
	// FailureRateThreshold is the share of failed calls in the window that opens the breaker [B7]: up to 1, or [Off].
	// 0: 0.5.
	FailureRateThreshold float64
	// MinimumCalls is how many calls the window holds before a rate may open the breaker [B7], [B8]: 1 to a billion.
	// 0: 10.
	MinimumCalls int
	// WindowSize is how far back the rates look [B9], 12 ms at least. 0: two minutes.
	WindowSize time.Duration

	// Timeout is how long the breaker stays open, the first time [B10], at most TimeoutMax. 0: one minute.
	Timeout time.Duration
	// TimeoutMultiplier multiplies that wait with each reopening [B10]: 1 to 100. 0: 1.
	TimeoutMultiplier float64
	// TimeoutMax bounds the wait [B10], and the life of a renewed lease [B12]. 0: one hour.
	TimeoutMax time.Duration
	// TimeoutJitter is the fraction of the wait that is added to it at random, at most [B10]. 0: none is.
	TimeoutJitter float64

	// HalfOpenMaxCalls is how many probes a half-open round admits, over all replicas [B12]: 1 to 1000. 0: 3.
	HalfOpenMaxCalls int
	// HalfOpenSuccessThreshold is how many of them must succeed to close the breaker [B13]. 0, or more than
	// HalfOpenMaxCalls: all of them.
	HalfOpenSuccessThreshold int
	// ProbeTimeout is the life of a probe's lease that nobody renews [B12]. 0: one minute.
	ProbeTimeout time.Duration
	// AbandonedProbe is what becomes of a probe whose lease lapsed [B12]. "": [ReleaseAbandoned].
	AbandonedProbe AbandonedProbe

	// SlowCallDuration is the duration beyond which a call is slow [B8]. 0: no call is.
	SlowCallDuration time.Duration
	// SlowCallRateThreshold is the share of slow calls in the window that opens the breaker [B8]. 0: none does.
	SlowCallRateThreshold float64

	// RecoveryRamp is how long the breaker admits a growing share of calls after it has closed [B16]. 0: all at once.
	RecoveryRamp time.Duration
	// RampFloor is the share of calls that is admitted at the start of that ramp [B16]; or [Off]. 0: 0.1.
	RampFloor float64

	// Mode says whether calls are refused [B21]. "": [Enforce].
	Mode Mode
	// RetryAfter is what an agent's own Retry-After does [B22]. "": [RetryAfterExtend].
	RetryAfter RetryAfter
	// RetryAfterMax is how much of it counts at most [B22]. 0: 15 minutes.
	RetryAfterMax time.Duration
	// Abandoned is how long a call over HTTP lasts without an answer before it counts as a failure when its caller gives
	// up [B4]; or [Off]: such a call never counts. 0: ten seconds.
	Abandoned time.Duration
	// ProbeSettle is how long the answer of a probe over HTTP streams, after its first data, until the probe is a success
	// [B13]; or [Off]: until the first data. 0: one second.
	ProbeSettle time.Duration
	// MinimumReporters is how many replicas must have seen failures in the window before the breaker opens [B23]: 1 to 8,
	// and no more than are up. 0: 1.
	MinimumReporters int
	// OnStoreError is how a [Fallback] answers while the store is down. "": [OnStoreErrorLocal].
	OnStoreError OnStoreError
	// Consistency says whether calls may be admitted without asking the store. "": [Strict].
	Consistency Consistency
}

// DefaultPolicy returns the zero Policy with all defaults filled in.
func DefaultPolicy() Policy { return Policy{}.WithDefaults() }

// WithDefaults returns p with the default in place of each zero field. A [Manager] gives its Store only such policies.
func (p Policy) WithDefaults() Policy {
	for _, k := range Knobs() {
		k.field.setDefault(&p)
	}
	return p
}

// MaxDuration is the longest duration of a policy, a hold or a ramp: 30 days. It keeps the machine's integers exact in
// the doubles of Lua.
const MaxDuration = 30 * 24 * time.Hour

// PolicyError is an invalid value of a policy: the name of its knob, the value, and what is allowed, as texts for
// people.
type PolicyError struct{ Field, Value, Allowed string }

func (e *PolicyError) Error() string {
	return fmt.Sprintf("%s: %s is not allowed: want %s", e.Field, e.Value, e.Allowed)
}

// Validate returns a [*PolicyError] for the first invalid field of p, with its defaults.
func (p Policy) Validate() error {
	p = p.WithDefaults()
	for _, k := range Knobs() {
		if v := k.Value(p); !k.field.ok(v) {
			allowed := k.Allowed()
			if k.field.takesOff() {
				allowed += ", breaker.Off for 0"
			}
			return k.invalid(v, allowed)
		}
	}
	if p.Timeout > p.TimeoutMax {
		most := decimal(p.TimeoutMax.Seconds())
		return &PolicyError{"timeout_seconds", decimal(p.Timeout.Seconds()), "at most timeout_max_seconds (" + most + ")"}
	}
	return nil
}

// isSlow reports whether a call of that duration is slow [B8].
func (p Policy) isSlow(d time.Duration) bool {
	return p.SlowCallDuration > 0 && d > p.SlowCallDuration
}

// Params is for authors of stores. It returns a policy that has its defaults, such as a Store is given, in the integers
// of package machine, which have 0 for [Off]. ttl is how
// long the store keeps an unused breaker. replicas is how many replicas are alive, which bounds MinimumReporters [B23];
// 0: unknown, which counts as one: a replica that knows of no other must be able to trip alone.
func (p Policy) Params(ttl time.Duration, replicas int) machine.Params {
	need := int64(p.HalfOpenSuccessThreshold)
	if need == 0 || need > int64(p.HalfOpenMaxCalls) {
		need = int64(p.HalfOpenMaxCalls)
	}
	reporters := int64(min(p.MinimumReporters, max(replicas, 1)))
	return machine.Params{
		Enabled: !p.Disabled, Observe: p.Mode == Observe, FailureThreshold: int64(max(p.FailureThreshold, 0)),
		FailureRatePPM: ppm(p.FailureRateThreshold), MinimumCalls: int64(p.MinimumCalls),
		WindowMs: p.WindowSize.Milliseconds(), TimeoutMs: p.Timeout.Milliseconds(),
		TimeoutMaxMs: p.TimeoutMax.Milliseconds(), JitterPPM: ppm(p.TimeoutJitter),
		MultiplierMilli: int64(math.Round(p.TimeoutMultiplier * 1000)),
		MaxCalls:        int64(p.HalfOpenMaxCalls), Need: need, ProbeTimeoutMs: p.ProbeTimeout.Milliseconds(),
		AbandonedFails: p.AbandonedProbe == FailAbandoned, SlowRatePPM: ppm(p.SlowCallRateThreshold),
		RampMs: p.RecoveryRamp.Milliseconds(), RampFloorPPM: ppm(p.RampFloor),
		RetryExtends: p.RetryAfter == RetryAfterExtend, RetryOpens: p.RetryAfter == RetryAfterOpen,
		TrackReporters: p.MinimumReporters > 1, Reporters: reporters, TTLMs: ttl.Milliseconds(),
		RetryMaxMs: p.RetryAfterMax.Milliseconds(),
	}
}

// ppm returns a fraction in millionths; of Off it is 0.
func ppm(v float64) int64 { return int64(math.Round(max(v, 0) * machine.Million)) }
