package breaker

import (
	"fmt"
	"math"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Mode says whether refusals are enforced or only reported [B21].
type Mode string

// The modes. Enforce is the default.
const (
	Enforce Mode = "enforce"
	Observe Mode = "observe" // every call is admitted; Permit.WouldRefuse says which ones would have been refused
)

// AbandonedProbe says what it means that a probe's lease lapses [B12].
type AbandonedProbe string

// What a lapsed lease means. ReleaseAbandoned is the default.
const (
	ReleaseAbandoned AbandonedProbe = "release" // the probe's place is free
	FailAbandoned    AbandonedProbe = "failure" // the probe also counts as failed
)

// RetryAfter says what an agent's own Retry-After does [B22].
type RetryAfter string

// What an agent's own Retry-After does. RetryAfterExtend is the default.
const (
	RetryAfterIgnore RetryAfter = "ignore"
	RetryAfterExtend RetryAfter = "extend" // the next opening waits at least as long
	RetryAfterOpen   RetryAfter = "open"   // the breaker opens at once
)

// OnStoreError says how a [Fallback] answers while the store is down.
type OnStoreError string

// How a Fallback answers while the store is down. OnStoreErrorLocal is the default.
const (
	OnStoreErrorLocal OnStoreError = "local" // from a breaker in the memory of the process
	OnStoreErrorAllow OnStoreError = "allow" // it admits every call, and counts none
	OnStoreErrorDeny  OnStoreError = "deny"  // it refuses every call
)

// Consistency says whether calls may be admitted without the store.
type Consistency string

// The modes of consistency. Strict is the default.
const (
	Strict Consistency = "strict" // the store is asked for every call
	Cached Consistency = "cached" // a closed breaker is answered from memory, for Options.MaxStaleness at most
)

// Off turns off a setting whose zero value means its default: FailureThreshold, FailureRateThreshold or RampFloor.
const Off = -1

// Policy configures the breaker of one agent. A zero field means its default, so the zero Policy is [DefaultPolicy].
// Durations are whole milliseconds of at most [MaxDuration]. Rates and fractions go from 0 to 1 and count to a
// millionth, TimeoutMultiplier to a thousandth. [Knobs] has the defaults and bounds.
type Policy struct {
	Disabled                 bool           // admits every call and records none, except under a hold [B21]
	FailureThreshold         int            // the run of failures that opens [B6]; or Off
	FailureRateThreshold     float64        // the failure rate that opens [B7]; or Off
	MinimumCalls             int            // how many calls the window holds before a rate may open [B7], [B8]
	WindowSize               time.Duration  // how far back the rates look [B9]
	Timeout                  time.Duration  // how long the first opening waits [B10]
	TimeoutMultiplier        float64        // multiplies the wait with each reopening; 1 to 100 [B10]
	TimeoutMax               time.Duration  // bounds the wait [B10], and the life of a renewed lease [B12]
	TimeoutJitter            float64        // the fraction of the wait that is added at random, at most [B10]
	HalfOpenMaxCalls         int            // probes of a round, over all replicas [B12]
	HalfOpenSuccessThreshold int            // successful probes that close [B13]; 0: HalfOpenMaxCalls
	ProbeTimeout             time.Duration  // life of a lease without renewal [B12]
	AbandonedProbe           AbandonedProbe // [B12]
	SlowCallDuration         time.Duration  // a longer call is slow [B8]; 0: none is
	SlowCallRateThreshold    float64        // the slow rate that opens [B8]; 0: none
	RecoveryRamp             time.Duration  // length of the ramp after closing [B16]; 0: none
	RampFloor                float64        // the fraction of calls that a ramp admits at its start [B16]; or Off
	Mode                     Mode           // [B21]
	RetryAfter               RetryAfter     // [B22]
	RetryAfterMax            time.Duration  // bounds an agent's own Retry-After [B22]
	MinimumReporters         int            // replicas that must see failures before the breaker opens [B23]; 1: off
	OnStoreError             OnStoreError
	Consistency              Consistency
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

// Params returns a policy that has its defaults in the integers of package machine, which have 0 for [Off]. ttl is how
// long the store keeps an unused breaker. replicas is how many replicas are alive, which bounds MinimumReporters [B23];
// 0: unknown.
func (p Policy) Params(ttl time.Duration, replicas int) machine.Params {
	need := int64(p.HalfOpenSuccessThreshold)
	if need == 0 || need > int64(p.HalfOpenMaxCalls) {
		need = int64(p.HalfOpenMaxCalls)
	}
	reporters := int64(p.MinimumReporters)
	if replicas > 0 {
		reporters = min(reporters, int64(replicas))
	}
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
