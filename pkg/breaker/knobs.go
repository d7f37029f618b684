package breaker

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Knob is one setting of a Policy under the name that texts give it: variables, overrides, agents.json, the HTTP API.
// It is for authors of configuration. What a knob says stands in the table alone: defaults, checks, texts and documents
// are made from it. Texts differ from Go in two ways: they write 0 where Go writes Off, and "enabled" where Go writes
// Disabled.
type Knob struct {
	Name   string // failure_threshold
	Clause string // of the machine, as B6; or where in docs there is more
	Doc    string // for tables

	row row
}

// row is how one Go type is kept, judged and described.
type row interface {
	value(p *Policy) any
	put(p *Policy, v any)
	ok(v any) bool // v as value gives it; false for another type
	allowed() string
	takesOff() bool
	fill(p *Policy) // gives a zero field its default
}

// Value is the knob's setting in p as texts say it: a bool, int, float64, time.Duration or string. A field of p that is
// not filled in (WithDefaults) has the zero value.
func (k Knob) Value(p Policy) any { return k.row.value(&p) }

// Set gives the knob the value v, of the type that Value has. A value that texts must not give is a *PolicyError and
// changes nothing. The rules between two knobs are Policy.Validate's.
func (k Knob) Set(p *Policy, v any) error {
	if !k.row.ok(v) {
		return k.refuse(v, k.Allowed())
	}
	k.row.put(p, v)
	return nil
}

// Allowed is what Set takes, in words.
func (k Knob) Allowed() string { return k.row.allowed() }

func (k Knob) refuse(v any, allowed string) error {
	shown := fmt.Sprint(v)
	switch v := v.(type) {
	case time.Duration:
		shown = fmt.Sprint(v.Seconds())
	case string:
		shown = strconv.Quote(v)
	}
	return &PolicyError{k.Name, shown, allowed}
}

// Knobs is the table of all knobs, in the order of the documentation.
func Knobs() []Knob {
	return []Knob{
		{"enabled", "B21", "false: admit all calls and record none", unless{func(p *Policy) *bool { return &p.Disabled }}},
		{"failure_threshold", "B6", "consecutive failures that open; 0: off", whole(func(p *Policy) *int { return &p.FailureThreshold }, 5, 0, machine.MaxRun).orOff()},
		{"failure_rate_threshold", "B7", "share of failed calls in the window that opens; 0: off", share(func(p *Policy) *float64 { return &p.FailureRateThreshold }, 0.5).orOff()},
		{"timeout_seconds", "B10", "seconds that a breaker stays open, the first time", span(func(p *Policy) *time.Duration { return &p.Timeout }, time.Minute, time.Millisecond)},
		{"half_open_max_calls", "B12", "probes of a half-open round, over all replicas", whole(func(p *Policy) *int { return &p.HalfOpenMaxCalls }, 3, 1, machine.MaxProbes)},
		{"window_size_seconds", "B9", "seconds that the rates look back", span(func(p *Policy) *time.Duration { return &p.WindowSize }, 2*time.Minute, 12*time.Millisecond)},
		{"minimum_calls", "B7", "calls in the window before a rate is believed", whole(func(p *Policy) *int { return &p.MinimumCalls }, 10, 1, 1_000_000_000)},
		{"half_open_success_threshold", "B13", "successful probes that close; 0, or more than the probes: all probes", whole(func(p *Policy) *int { return &p.HalfOpenSuccessThreshold }, 0, 0, machine.MaxProbes)},
		{"probe_timeout_seconds", "B12", "seconds that a probe keeps its place without renewal", span(func(p *Policy) *time.Duration { return &p.ProbeTimeout }, time.Minute, time.Millisecond)},
		{"abandoned_probe", "B12", "a probe that never reports: gives its place back, or also counts as failed", word(func(p *Policy) *AbandonedProbe { return &p.AbandonedProbe }, ReleaseAbandoned, ReleaseAbandoned, FailAbandoned)},
		{"timeout_multiplier", "B10", "factor on the wait for every reopening", bounded[float64]{func(p *Policy) *float64 { return &p.TimeoutMultiplier }, 1, 1, 100, false}},
		{"timeout_max_seconds", "B10", "seconds that a wait, or a renewed probe, lasts at most", span(func(p *Policy) *time.Duration { return &p.TimeoutMax }, time.Hour, time.Millisecond)},
		{"timeout_jitter", "B10", "share of the wait that is added at random, at most", share(func(p *Policy) *float64 { return &p.TimeoutJitter }, 0)},
		{"slow_call_duration_seconds", "B8", "seconds beyond which a call is slow; 0: off", span(func(p *Policy) *time.Duration { return &p.SlowCallDuration }, 0, 0)},
		{"slow_call_rate_threshold", "B8", "share of slow calls in the window that opens; 0: off", share(func(p *Policy) *float64 { return &p.SlowCallRateThreshold }, 0)},
		{"recovery_ramp_seconds", "B16", "seconds over which a closed breaker admits more and more again; 0: all at once", span(func(p *Policy) *time.Duration { return &p.RecoveryRamp }, 0, 0)},
		{"ramp_floor", "B16", "share of calls that is admitted at the start of that ramp", share(func(p *Policy) *float64 { return &p.RampFloor }, 0.1).orOff()},
		{"mode", "B21", "observe: report what would have been refused, refuse nothing", word(func(p *Policy) *Mode { return &p.Mode }, Enforce, Enforce, Observe)},
		{"retry_after", "B22", "an agent's own Retry-After: is ignored, lengthens the wait, or opens at once", word(func(p *Policy) *RetryAfter { return &p.RetryAfter }, RetryAfterExtend, RetryAfterIgnore, RetryAfterExtend, RetryAfterOpen)},
		{"retry_after_max_seconds", "B22", "seconds of an agent's own Retry-After that count at most", span(func(p *Policy) *time.Duration { return &p.RetryAfterMax }, 15*time.Minute, time.Millisecond)},
		{"minimum_reporters", "B23", "replicas that must have seen failures before a breaker opens", whole(func(p *Policy) *int { return &p.MinimumReporters }, 1, 1, machine.MaxReporters)},
		{"on_store_error", "consistency.md#when-redis-is-down", "while Redis is down: decide from memory, admit all, or refuse all", word(func(p *Policy) *OnStoreError { return &p.OnStoreError }, OnStoreErrorLocal, OnStoreErrorLocal, OnStoreErrorAllow, OnStoreErrorDeny)},
		{"consistency", "consistency.md#cached", "strict: ask Redis on every call; cached: answer from memory while closed", word(func(p *Policy) *Consistency { return &p.Consistency }, Strict, Strict, Cached)},
	}
}

// unless is a switch that texts call on where the field is false.
type unless struct{ at func(*Policy) *bool }

func (u unless) value(p *Policy) any  { return !*u.at(p) }
func (u unless) put(p *Policy, v any) { *u.at(p) = v == false }
func (unless) ok(v any) bool          { _, is := v.(bool); return is }
func (unless) allowed() string        { return "true or false" }
func (unless) takesOff() bool         { return false }
func (unless) fill(*Policy)           {}

// bounded is a number or a length of time.
type bounded[T int | float64 | time.Duration] struct {
	at             func(*Policy) *T
	def, low, high T
	off            bool // the field may be Off, for which texts write 0
}

func whole(at func(*Policy) *int, def, low, high int) bounded[int] {
	return bounded[int]{at, def, low, high, false}
}

// share is a number from 0 to 1.
func share(at func(*Policy) *float64, def float64) bounded[float64] {
	return bounded[float64]{at, def, 0, 1, false}
}

// span is a length of time up to MaxDuration, to 1 ms.
func span(at func(*Policy) *time.Duration, def, low time.Duration) bounded[time.Duration] {
	return bounded[time.Duration]{at, def, low, MaxDuration, false}
}

func (b bounded[T]) takesOff() bool    { return b.off }
func (b bounded[T]) orOff() bounded[T] { b.off = true; return b }

func (b bounded[T]) value(p *Policy) any {
	v := *b.at(p)
	if b.off && v == Off {
		v = 0
	}
	return v
}

func (b bounded[T]) put(p *Policy, v any) {
	x, _ := v.(T)
	if b.off && x == 0 {
		x = Off
	}
	*b.at(p) = x
}

func (b bounded[T]) fill(p *Policy) {
	if v := b.at(p); *v == 0 {
		*v = b.def
	}
}

func (b bounded[T]) ok(v any) bool {
	x, is := v.(T)
	d, _ := v.(time.Duration)
	return is && x >= b.low && x <= b.high && d%time.Millisecond == 0 // NaN is not >= anything
}

func (b bounded[T]) allowed() string {
	switch low := any(b.low).(type) {
	case time.Duration:
		return fmt.Sprintf("seconds from %s to %s, to 0.001", plain(low.Seconds()), plain(MaxDuration.Seconds()))
	case float64:
		return fmt.Sprintf("a number from %g to %g", low, any(b.high))
	}
	return fmt.Sprintf("a whole number from %d to %d", any(b.low), any(b.high))
}

// plain writes a number without an exponent.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// words is one word of several.
type words[T ~string] struct {
	at  func(*Policy) *T
	def T
	all []T
}

func word[T ~string](at func(*Policy) *T, def T, all ...T) words[T] { return words[T]{at, def, all} }

func (w words[T]) value(p *Policy) any  { return string(*w.at(p)) }
func (w words[T]) put(p *Policy, v any) { text, _ := v.(string); *w.at(p) = T(text) }
func (w words[T]) ok(v any) bool {
	text, is := v.(string)
	return is && slices.Contains(w.all, T(text))
}
func (w words[T]) allowed() string { return fmt.Sprintf("one of %q", w.all) }
func (words[T]) takesOff() bool    { return false }

func (w words[T]) fill(p *Policy) {
	if v := w.at(p); *v == "" {
		*v = w.def
	}
}
