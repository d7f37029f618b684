package breaker

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Knob is one setting of a [Policy] under the name that it has in variables, overrides, agents.json and the HTTP API.
// It is for authors of configuration. Its values are those of texts, which differ from Go's in two ways: 0 means
// [Off], and the knob "enabled" is the opposite of Policy.Disabled. The table that [Knobs] returns is the only source
// of names, defaults, bounds and descriptions.
type Knob struct {
	Name   string // failure_threshold
	Clause string // of package machine, as B6; or the place in docs/ that has more
	Doc    string // one line for tables

	field field
}

// field accesses and checks the field of a Policy that belongs to a Knob.
type field interface {
	value(p *Policy) any
	zero(p *Policy) bool
	set(p *Policy, v any)
	ok(v any) bool // v is a value of the knob's type, within its bounds
	allowed() string
	takesOff() bool
	setDefault(p *Policy) // if the field is zero
}

// Value returns the knob's value in p: a bool, int, float64, time.Duration or string. Of a policy without its defaults
// ([Policy.WithDefaults]) it may be zero.
func (k Knob) Value(p Policy) any { return k.field.value(&p) }

// Set sets the knob in p to v, which has the type that Value returns. An invalid value is a [*PolicyError], and p is
// unchanged. Set does not check one knob against another; [Policy.Validate] does.
func (k Knob) Set(p *Policy, v any) error {
	if !k.field.ok(v) {
		return k.invalid(v, k.Allowed())
	}
	k.field.set(p, v)
	return nil
}

// Zero reports whether the knob's field of p is zero, which in Go means its default.
func (k Knob) Zero(p Policy) bool { return k.field.zero(&p) }

// Allowed describes the values that Set accepts.
func (k Knob) Allowed() string { return k.field.allowed() }

func (k Knob) invalid(v any, allowed string) error {
	shown := fmt.Sprint(v)
	switch v := v.(type) {
	case time.Duration:
		shown = decimal(v.Seconds())
	case string:
		shown = strconv.Quote(v)
	}
	return &PolicyError{k.Name, shown, allowed}
}

// Knobs returns all knobs, in the order of the documentation.
func Knobs() []Knob {
	return []Knob{
		{"enabled", "B21", "false: admit all calls and record none", negated{func(p *Policy) *bool { return &p.Disabled }}},
		{"failure_threshold", "B6", "consecutive failures that open; 0: off", integer(func(p *Policy) *int { return &p.FailureThreshold }, 5, 0, machine.MaxRun).orOff()},
		{"failure_rate_threshold", "B7", "share of failed calls in the window that opens; 0: off", fraction(func(p *Policy) *float64 { return &p.FailureRateThreshold }, 0.5).orOff()},
		{"timeout_seconds", "B10", "seconds that a breaker stays open, the first time", duration(func(p *Policy) *time.Duration { return &p.Timeout }, time.Minute, time.Millisecond)},
		{"half_open_max_calls", "B12", "probes of a half-open round, over all replicas", integer(func(p *Policy) *int { return &p.HalfOpenMaxCalls }, 3, 1, machine.MaxProbes)},
		{"window_size_seconds", "B9", "seconds that the rates look back", duration(func(p *Policy) *time.Duration { return &p.WindowSize }, 2*time.Minute, 12*time.Millisecond)},
		{"minimum_calls", "B7", "calls in the window before a rate is believed", integer(func(p *Policy) *int { return &p.MinimumCalls }, 10, 1, 1_000_000_000)},
		{"half_open_success_threshold", "B13", "successful probes that close; 0, or more than the probes: all probes", integer(func(p *Policy) *int { return &p.HalfOpenSuccessThreshold }, 0, 0, machine.MaxProbes)},
		{"probe_timeout_seconds", "B12", "seconds that a probe keeps its place without renewal", duration(func(p *Policy) *time.Duration { return &p.ProbeTimeout }, time.Minute, time.Millisecond)},
		{"abandoned_probe", "B12", "a probe that never reports: gives its place back, or also counts as failed", enum(func(p *Policy) *AbandonedProbe { return &p.AbandonedProbe }, ReleaseAbandoned, ReleaseAbandoned, FailAbandoned)},
		{"timeout_multiplier", "B10", "factor on the wait for every reopening", quantity[float64]{func(p *Policy) *float64 { return &p.TimeoutMultiplier }, 1, 1, 100, false}},
		{"timeout_max_seconds", "B10", "seconds that a wait, or a renewed probe, lasts at most", duration(func(p *Policy) *time.Duration { return &p.TimeoutMax }, time.Hour, time.Millisecond)},
		{"timeout_jitter", "B10", "share of the wait that is added at random, at most", fraction(func(p *Policy) *float64 { return &p.TimeoutJitter }, 0)},
		{"slow_call_duration_seconds", "B8", "seconds beyond which a call is slow; 0: off", duration(func(p *Policy) *time.Duration { return &p.SlowCallDuration }, 0, 0)},
		{"slow_call_rate_threshold", "B8", "share of slow calls in the window that opens; 0: off", fraction(func(p *Policy) *float64 { return &p.SlowCallRateThreshold }, 0)},
		{"recovery_ramp_seconds", "B16", "seconds over which a closed breaker admits more and more again; 0: all at once", duration(func(p *Policy) *time.Duration { return &p.RecoveryRamp }, 0, 0)},
		{"ramp_floor", "B16", "share of calls that is admitted at the start of that ramp", fraction(func(p *Policy) *float64 { return &p.RampFloor }, 0.1).orOff()},
		{"mode", "B21", "observe: report what would have been refused, refuse nothing", enum(func(p *Policy) *Mode { return &p.Mode }, Enforce, Enforce, Observe)},
		{"retry_after", "B22", "an agent's own Retry-After: is ignored, lengthens the wait, or opens at once", enum(func(p *Policy) *RetryAfter { return &p.RetryAfter }, RetryAfterExtend, RetryAfterIgnore, RetryAfterExtend, RetryAfterOpen)},
		{"retry_after_max_seconds", "B22", "seconds of an agent's own Retry-After that count at most", duration(func(p *Policy) *time.Duration { return &p.RetryAfterMax }, 15*time.Minute, time.Millisecond)},
		{"abandoned_seconds", "B4", "seconds without an answer after which a call that its caller gives up is a failure; 0: off", duration(func(p *Policy) *time.Duration { return &p.Abandoned }, 10*time.Second, 0).orOff()},
		{"probe_settle_seconds", "B13", "seconds that a probe's answer streams until it is a success; 0: until its first data", duration(func(p *Policy) *time.Duration { return &p.ProbeSettle }, time.Second, 0).orOff()},
		{"minimum_reporters", "B23", "replicas that must have seen failures before a breaker opens", integer(func(p *Policy) *int { return &p.MinimumReporters }, 1, 1, machine.MaxReporters)},
		{"on_store_error", "consistency.md#when-redis-is-down", "while Redis is down: decide from memory, admit all, or refuse all", enum(func(p *Policy) *OnStoreError { return &p.OnStoreError }, OnStoreErrorLocal, OnStoreErrorLocal, OnStoreErrorAllow, OnStoreErrorDeny)},
		{"consistency", "consistency.md#cached", "strict: ask Redis on every call; cached: answer from memory while closed", enum(func(p *Policy) *Consistency { return &p.Consistency }, Strict, Strict, Cached)},
	}
}

// negated is a bool of which the knob has the opposite.
type negated struct{ at func(*Policy) *bool }

func (n negated) zero(p *Policy) bool  { return !*n.at(p) }
func (n negated) value(p *Policy) any  { return !*n.at(p) }
func (n negated) set(p *Policy, v any) { *n.at(p) = v == false }
func (negated) ok(v any) bool          { _, is := v.(bool); return is }
func (negated) allowed() string        { return "true or false" }
func (negated) takesOff() bool         { return false }
func (negated) setDefault(*Policy)     {}

// quantity is a number or a duration.
type quantity[T int | float64 | time.Duration] struct {
	at             func(*Policy) *T
	def, low, high T
	off            bool // 0 of the knob is Off in the Policy, whose 0 means the default
}

func integer(at func(*Policy) *int, def, low, high int) quantity[int] {
	return quantity[int]{at, def, low, high, false}
}

// fraction is a number from 0 to 1.
func fraction(at func(*Policy) *float64, def float64) quantity[float64] {
	return quantity[float64]{at, def, 0, 1, false}
}

// duration is a whole number of milliseconds, up to MaxDuration.
func duration(at func(*Policy) *time.Duration, def, low time.Duration) quantity[time.Duration] {
	return quantity[time.Duration]{at, def, low, MaxDuration, false}
}

func (b quantity[T]) takesOff() bool     { return b.off }
func (b quantity[T]) orOff() quantity[T] { b.off = true; return b }

func (b quantity[T]) zero(p *Policy) bool { return *b.at(p) == 0 }

func (b quantity[T]) value(p *Policy) any {
	v := *b.at(p)
	if b.off && v == Off {
		v = 0
	}
	return v
}

func (b quantity[T]) set(p *Policy, v any) {
	x, _ := v.(T)
	if b.off && x == 0 {
		x = Off
	}
	*b.at(p) = x
}

func (b quantity[T]) setDefault(p *Policy) {
	*b.at(p) = cmp.Or(*b.at(p), b.def)
}

func (b quantity[T]) ok(v any) bool {
	x, is := v.(T)
	d, _ := v.(time.Duration)
	return is && x >= b.low && x <= b.high && d%time.Millisecond == 0 // NaN fails every comparison
}

func (b quantity[T]) allowed() string {
	switch low := any(b.low).(type) {
	case time.Duration:
		return fmt.Sprintf("seconds from %s to %s, to 0.001", decimal(low.Seconds()), decimal(MaxDuration.Seconds()))
	case float64:
		return fmt.Sprintf("a number from %g to %g", low, any(b.high))
	}
	return fmt.Sprintf("a whole number from %d to %d", any(b.low), any(b.high))
}

// decimal formats a number without an exponent.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// oneOf is a word out of several.
type oneOf[T ~string] struct {
	at    func(*Policy) *T
	def   T
	words []T
}

func enum[T ~string](at func(*Policy) *T, def T, words ...T) oneOf[T] {
	return oneOf[T]{at, def, words}
}

func (o oneOf[T]) zero(p *Policy) bool  { return *o.at(p) == "" }
func (o oneOf[T]) value(p *Policy) any  { return string(*o.at(p)) }
func (o oneOf[T]) set(p *Policy, v any) { text, _ := v.(string); *o.at(p) = T(text) }
func (o oneOf[T]) ok(v any) bool {
	text, is := v.(string)
	return is && slices.Contains(o.words, T(text))
}
func (o oneOf[T]) allowed() string      { return fmt.Sprintf("one of %q", o.words) }
func (oneOf[T]) takesOff() bool         { return false }
func (o oneOf[T]) setDefault(p *Policy) { *o.at(p) = cmp.Or(*o.at(p), o.def) }
