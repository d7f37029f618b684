package breaker

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// setting is one row of the table of what an override may hold.
type setting struct {
	name  string
	kind  string // of its JSON: boolean, number, text
	parse func(o *Override, text string) bool
	given func(o Override) (any, bool)
	apply func(o Override, p *Policy)
	value func(p Policy) any
	spoil func(p *Policy) // sets a value that Validate refuses; nothing for a boolean
}

// check reports a given value that no policy may have, whatever the other fields are.
func (s setting) check(o Override) error {
	p := loosest()
	s.apply(o, &p)
	return p.Validate()
}

// allowed is what Validate says when it refuses: the bounds are written in one place.
func (s setting) allowed() string {
	p := loosest()
	s.spoil(&p)
	if bad, is := errors.AsType[*PolicyError](p.Validate()); is {
		return bad.Allowed
	}
	return "true or false"
}

// loosest is a policy in which any field may take each of its values without breaking a rule between fields.
func loosest() Policy {
	p := DefaultPolicy()
	p.Timeout, p.TimeoutMax = time.Millisecond, MaxDuration
	return p
}

func findSetting(name string) (setting, bool) {
	for _, s := range settings() {
		if s.name == name {
			return s, true
		}
	}
	return setting{}, false
}

// settings is the table; its order is the documentation's.
func settings() []setting {
	enabled := row("enabled", boolean, func(o *Override) **bool { return &o.Enabled }, func(p *Policy) *bool { return &p.Enabled })
	enabled.apply = func(o Override, p *Policy) { p.Enabled = p.Enabled && (o.Enabled == nil || *o.Enabled) }
	return []setting{
		enabled,
		row("failure_threshold", whole, func(o *Override) **int { return &o.FailureThreshold }, func(p *Policy) *int { return &p.FailureThreshold }),
		row("failure_rate_threshold", decimal, func(o *Override) **float64 { return &o.FailureRateThreshold }, func(p *Policy) *float64 { return &p.FailureRateThreshold }),
		row("timeout_seconds", seconds, func(o *Override) **time.Duration { return &o.Timeout }, func(p *Policy) *time.Duration { return &p.Timeout }),
		row("half_open_max_calls", whole, func(o *Override) **int { return &o.HalfOpenMaxCalls }, func(p *Policy) *int { return &p.HalfOpenMaxCalls }),
		row("window_size_seconds", seconds, func(o *Override) **time.Duration { return &o.WindowSize }, func(p *Policy) *time.Duration { return &p.WindowSize }),
		row("minimum_calls", whole, func(o *Override) **int { return &o.MinimumCalls }, func(p *Policy) *int { return &p.MinimumCalls }),
		row("half_open_success_threshold", whole, func(o *Override) **int { return &o.HalfOpenSuccessThreshold }, func(p *Policy) *int { return &p.HalfOpenSuccessThreshold }),
		row("probe_timeout_seconds", seconds, func(o *Override) **time.Duration { return &o.ProbeTimeout }, func(p *Policy) *time.Duration { return &p.ProbeTimeout }),
		row("abandoned_probe", word, func(o *Override) **AbandonedProbe { return &o.AbandonedProbe }, func(p *Policy) *AbandonedProbe { return &p.AbandonedProbe }),
		row("timeout_multiplier", decimal, func(o *Override) **float64 { return &o.TimeoutMultiplier }, func(p *Policy) *float64 { return &p.TimeoutMultiplier }),
		row("timeout_max_seconds", seconds, func(o *Override) **time.Duration { return &o.TimeoutMax }, func(p *Policy) *time.Duration { return &p.TimeoutMax }),
		row("timeout_jitter", decimal, func(o *Override) **float64 { return &o.TimeoutJitter }, func(p *Policy) *float64 { return &p.TimeoutJitter }),
		row("slow_call_duration_seconds", seconds, func(o *Override) **time.Duration { return &o.SlowCallDuration }, func(p *Policy) *time.Duration { return &p.SlowCallDuration }),
		row("slow_call_rate_threshold", decimal, func(o *Override) **float64 { return &o.SlowCallRateThreshold }, func(p *Policy) *float64 { return &p.SlowCallRateThreshold }),
		row("recovery_ramp_seconds", seconds, func(o *Override) **time.Duration { return &o.RecoveryRamp }, func(p *Policy) *time.Duration { return &p.RecoveryRamp }),
		row("ramp_floor", decimal, func(o *Override) **float64 { return &o.RampFloor }, func(p *Policy) *float64 { return &p.RampFloor }),
		row("mode", word, func(o *Override) **Mode { return &o.Mode }, func(p *Policy) *Mode { return &p.Mode }),
		row("retry_after", word, func(o *Override) **RetryAfter { return &o.RetryAfter }, func(p *Policy) *RetryAfter { return &p.RetryAfter }),
		row("minimum_reporters", whole, func(o *Override) **int { return &o.MinimumReporters }, func(p *Policy) *int { return &p.MinimumReporters }),
		row("on_store_error", word, func(o *Override) **OnStoreError { return &o.OnStoreError }, func(p *Policy) *OnStoreError { return &p.OnStoreError }),
		row("consistency", word, func(o *Override) **Consistency { return &o.Consistency }, func(p *Policy) *Consistency { return &p.Consistency }),
	}
}

// codec is how one Go type is written.
type codec[T any] struct {
	kind  string
	parse func(text string) (T, bool)
	plain func(T) any // as encoding/json should see it
	bad   T           // a value that no field of this type may have
}

func row[T any](name string, as func() codec[T], of func(*Override) **T, in func(*Policy) *T) setting {
	c := as()
	return setting{
		name: name, kind: c.kind,
		parse: func(o *Override, text string) bool {
			v, ok := c.parse(text)
			if ok {
				*of(o) = &v
			}
			return ok
		},
		given: func(o Override) (any, bool) {
			v := *of(&o)
			if v == nil {
				return nil, false
			}
			return c.plain(*v), true
		},
		apply: func(o Override, p *Policy) {
			if v := *of(&o); v != nil {
				*in(p) = *v
			}
		},
		value: func(p Policy) any { return c.plain(*in(&p)) },
		spoil: func(p *Policy) { *in(p) = c.bad },
	}
}

func boolean() codec[bool] {
	parse := func(text string) (bool, bool) { v, err := strconv.ParseBool(text); return v, err == nil }
	return codec[bool]{"boolean", parse, func(v bool) any { return v }, false}
}

func whole() codec[int] {
	parse := func(text string) (int, bool) { v, err := strconv.Atoi(text); return v, err == nil }
	return codec[int]{"number", parse, func(v int) any { return v }, -1}
}

func decimal() codec[float64] {
	return codec[float64]{"number", parseDecimal, func(v float64) any { return v }, -1}
}

func seconds() codec[time.Duration] {
	// Divided, not d.Seconds(), which adds: this way 0.3 s is again 0.3.
	plain := func(d time.Duration) any { return float64(d) / float64(time.Second) }
	return codec[time.Duration]{"number", ParseSeconds, plain, -time.Millisecond}
}

func word[T ~string]() codec[T] {
	return codec[T]{"text", func(text string) (T, bool) { return T(text), true }, func(v T) any { return string(v) }, ""}
}

// parseDecimal takes what JSON calls a number, and a leading plus or point: no NaN, Inf, hexadecimal or underscores.
func parseDecimal(text string) (float64, bool) {
	if strings.Trim(text, "0123456789+-.eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	if v == 0 {
		v = 0 // not -0
	}
	return v, err == nil
}

// ParseSeconds takes decimal seconds ("60", "0.25"), to 1 ms, within MaxDuration on either side of 0. It is how
// every _seconds of a user is read; ok is false for anything else, finer fractions, NaN and units included.
func ParseSeconds(text string) (d time.Duration, ok bool) {
	v, ok := parseDecimal(text)
	if !ok || math.Abs(v) > MaxDuration.Seconds() {
		return 0, false
	}
	ms := math.Round(v * 1000)
	return time.Duration(ms) * time.Millisecond, ms/1000 == v
}
