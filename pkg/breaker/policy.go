package breaker

import (
	"fmt"
	"math"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Mode says whether refusals are enforced or only reported [B21].
type Mode string

// The modes; Enforce is the default.
const (
	Enforce Mode = "enforce"
	Observe Mode = "observe"
)

// AbandonedProbe says what a lapsed lease means [B12].
type AbandonedProbe string

// What a lapsed lease means: its place is freed, or it also counts as failed.
const (
	ReleaseAbandoned AbandonedProbe = "release"
	FailAbandoned    AbandonedProbe = "failure"
)

// RetryAfter says what an upstream's Retry-After does [B22].
type RetryAfter string

// What an upstream's Retry-After does: nothing; lengthens the next wait; opens at once.
const (
	RetryAfterIgnore RetryAfter = "ignore"
	RetryAfterExtend RetryAfter = "extend"
	RetryAfterOpen   RetryAfter = "open"
)

// OnStoreError says what a replica does while the store is away.
type OnStoreError string

// What a replica does while the store is away: run the machine in memory, admit all, refuse all.
const (
	OnStoreErrorLocal OnStoreError = "local"
	OnStoreErrorAllow OnStoreError = "allow"
	OnStoreErrorDeny  OnStoreError = "deny"
)

// Consistency says how far a replica may answer by itself.
type Consistency string

// Strict asks the store on every call.
const (
	Strict Consistency = "strict"
	Cached Consistency = "cached"
)

// Off switches off the field of a Policy in which zero means the default: FailureThreshold, FailureRateThreshold, RampFloor.
const Off = -1

// Policy is how one agent's breaker behaves. A zero field means its default, so the zero Policy is DefaultPolicy.
// Durations count to 1 ms, rates and shares to one machine.Millionth, the multiplier to one thousandth.
type Policy struct {
	Disabled                 bool           // [B21]; the machine admits all and records nothing, holds still stand
	FailureThreshold         int            // [B6]; at most 255, or Off
	FailureRateThreshold     float64        // [B7]; at most 1, or Off
	MinimumCalls             int            // [B7], [B8]; calls in the window before a rate is believed
	WindowSize               time.Duration  // [B9]
	Timeout                  time.Duration  // [B10]; the first wait
	TimeoutMultiplier        float64        // [B10]; 1 to 100
	TimeoutMax               time.Duration  // [B10]; also the longest life of a lease [B12]
	TimeoutJitter            float64        // [B10]; 0 to 1, added on top
	HalfOpenMaxCalls         int            // [B12]; probes a round over all replicas
	HalfOpenSuccessThreshold int            // [B12]; 0: as many as HalfOpenMaxCalls
	ProbeTimeout             time.Duration  // [B12]; the life of a lease without renewal
	AbandonedProbe           AbandonedProbe // [B12]
	SlowCallDuration         time.Duration  // [B8]; 0 turns it off
	SlowCallRateThreshold    float64        // [B8]; 0 turns it off
	RecoveryRamp             time.Duration  // [B16]; 0: none
	RampFloor                float64        // [B16]; the share admitted at the start of a ramp, or Off: none
	Mode                     Mode           // [B21]
	RetryAfter               RetryAfter     // [B22]
	RetryAfterMax            time.Duration  // [B22]; the longest Retry-After that is believed
	MinimumReporters         int            // [B23]; 1 turns it off
	OnStoreError             OnStoreError
	Consistency              Consistency
}

// DefaultPolicy is the policy of an agent that nobody configured: the zero Policy, with every default written out.
func DefaultPolicy() Policy { return Policy{}.WithDefaults() }

// WithDefaults is p with the default in place of each zero field. Stores are given policies so.
func (p Policy) WithDefaults() Policy {
	for _, k := range Knobs() {
		k.row.fill(&p)
	}
	return p
}

// MaxDuration bounds every duration of a policy, a hold and a ramp: 30 days. It keeps the machine's integers exact in Lua's
// doubles.
const MaxDuration = 30 * 24 * time.Hour

// PolicyError names one bad value of a policy: the field as the override and the registry spell it, the value, and what is allowed.
type PolicyError struct{ Field, Value, Allowed string }

func (e *PolicyError) Error() string {
	return fmt.Sprintf("%s: %s is not allowed: want %s", e.Field, e.Value, e.Allowed)
}

// Validate reports the first bad value as a *PolicyError. A zero field is its default, and so never bad.
func (p Policy) Validate() error {
	p = p.WithDefaults()
	for _, k := range Knobs() {
		if v := k.Value(p); !k.row.ok(v) {
			allowed := k.Allowed()
			if k.row.takesOff() {
				allowed += ", breaker.Off for 0"
			}
			return k.refuse(v, allowed)
		}
	}
	if p.Timeout > p.TimeoutMax {
		return &PolicyError{
			"timeout_seconds", plain(p.Timeout.Seconds()), "at most timeout_max_seconds (" + plain(p.TimeoutMax.Seconds()) + ")",
		}
	}
	return nil
}

// isSlow says whether a call of that duration counts as slow [B8].
func (p Policy) isSlow(d time.Duration) bool {
	return p.SlowCallDuration > 0 && d > p.SlowCallDuration
}

// Params turns p, whose defaults are filled in, into integers; Off is 0. ttl is REDIS_TTL_SECONDS; replicas is how many
// are alive (0: unknown, K stands).
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
		WindowMs: p.WindowSize.Milliseconds(), TimeoutMs: p.Timeout.Milliseconds(), TimeoutMaxMs: p.TimeoutMax.Milliseconds(),
		MultiplierMilli: int64(math.Round(p.TimeoutMultiplier * 1000)), JitterPPM: ppm(p.TimeoutJitter),
		MaxCalls: int64(p.HalfOpenMaxCalls), Need: need, ProbeTimeoutMs: p.ProbeTimeout.Milliseconds(),
		AbandonedFails: p.AbandonedProbe == FailAbandoned, SlowRatePPM: ppm(p.SlowCallRateThreshold),
		RampMs: p.RecoveryRamp.Milliseconds(), RampFloorPPM: ppm(p.RampFloor),
		RetryExtends: p.RetryAfter == RetryAfterExtend, RetryOpens: p.RetryAfter == RetryAfterOpen,
		TrackReporters: p.MinimumReporters > 1, Reporters: reporters, TTLMs: ttl.Milliseconds(),
		RetryMaxMs: p.RetryAfterMax.Milliseconds(),
	}
}

// ppm is a share in millionths; of Off it is 0.
func ppm(v float64) int64 { return int64(math.Round(max(v, 0) * machine.Million)) }
