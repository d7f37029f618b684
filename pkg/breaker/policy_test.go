package breaker_test

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestKnobs_CoverEachFieldOfPolicy(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[breaker.Policy]()
	if got, want := len(breaker.Knobs()), fields.NumField(); got != want {
		t.Fatalf("%d knobs, %d fields", got, want)
	}
	set := map[string]string{}
	for _, k := range breaker.Knobs() {
		p := breaker.Policy{}
		v := k.Value(breaker.DefaultPolicy())
		switch x := v.(type) { // other than in the zero Policy
		case bool:
			v = false
		case int:
			v = max(x, 1)
		case float64:
			v = max(x, 1.0)
		case time.Duration:
			v = max(x, time.Second)
		}
		if err := k.Set(&p, v); err != nil {
			t.Fatal(err)
		}
		if k.Value(p) != v {
			t.Errorf("%s: set to %v, is %v", k.Name, v, k.Value(p))
		}
		for i := range fields.NumField() {
			if !reflect.ValueOf(p).Field(i).IsZero() {
				if other := set[fields.Field(i).Name]; other != "" {
					t.Errorf("%s and %s are one field", other, k.Name)
				}
				set[fields.Field(i).Name] = k.Name
			}
		}
		if k.Doc == "" || k.Clause == "" || k.Allowed() == "" {
			t.Errorf("%s: Doc, Clause or Allowed is empty", k.Name)
		}
	}
	if len(set) != fields.NumField() {
		t.Errorf("fields with a knob: %v", set)
	}
}

func TestPolicy_ZeroIsTheDefault(t *testing.T) {
	t.Parallel()
	want := breaker.Policy{
		FailureThreshold: 5, FailureRateThreshold: 0.5, MinimumCalls: 10, WindowSize: 2 * time.Minute, Timeout: time.Minute,
		TimeoutMultiplier: 1, TimeoutMax: time.Hour, HalfOpenMaxCalls: 3, ProbeTimeout: time.Minute,
		AbandonedProbe: breaker.ReleaseAbandoned, RampFloor: 0.1, Mode: breaker.Enforce, RetryAfter: breaker.RetryAfterExtend, RetryAfterMax: 15 * time.Minute,
		Abandoned: 10 * time.Second, ProbeSettle: time.Second, MinimumReporters: 1, OnStoreError: breaker.OnStoreErrorLocal, Consistency: breaker.Strict,
	}
	if got := breaker.DefaultPolicy(); got != want || got.WithDefaults() != want || (breaker.Policy{}).WithDefaults() != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := (breaker.Policy{}).Validate(); err != nil {
		t.Error(err)
	}
}

// In texts 0 turns a knob off; in Go, Off does, and 0 means the default.
func TestPolicy_OffIsZeroInTextsAndInTheMachine(t *testing.T) {
	t.Parallel()
	p := breaker.Policy{
		FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off, RampFloor: breaker.Off,
		Abandoned: breaker.Off, ProbeSettle: breaker.Off,
	}.WithDefaults()
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if got := p.Params(time.Hour, 0); got.FailureThreshold != 0 || got.FailureRatePPM != 0 || got.RampFloorPPM != 0 {
		t.Errorf("got %+v", got)
	}
	offable := 0
	for _, k := range breaker.Knobs() {
		var q breaker.Policy
		switch v := k.Value(p); k.Name {
		case "failure_threshold":
			if v != 0 || k.Set(&q, 0) != nil || q.FailureThreshold != breaker.Off {
				t.Errorf("%s: %v, %+v", k.Name, v, q)
			}
			offable++
		case "failure_rate_threshold", "ramp_floor":
			if v != 0.0 || k.Set(&q, 0.0) != nil || q.FailureRateThreshold+q.RampFloor != breaker.Off {
				t.Errorf("%s: %v, %+v", k.Name, v, q)
			}
			offable++
		case "abandoned_seconds", "probe_settle_seconds":
			if v != time.Duration(0) || k.Set(&q, time.Duration(0)) != nil || q.Abandoned+q.ProbeSettle != breaker.Off {
				t.Errorf("%s: %v, %+v", k.Name, v, q)
			}
			offable++
		}
	}
	if offable != 5 {
		t.Errorf("%d knobs that take Off", offable)
	}
}

// invalidPolicies returns invalid policies by the knob that is wrong.
func invalidPolicies() map[string][]breaker.Policy {
	return map[string][]breaker.Policy{
		"failure_threshold":           {{FailureThreshold: 1000}, {FailureThreshold: 256}, {FailureThreshold: -2}, {FailureThreshold: math.MinInt}},
		"failure_rate_threshold":      {{FailureRateThreshold: 50}, {FailureRateThreshold: 1.0001}, {FailureRateThreshold: -0.5}, {FailureRateThreshold: math.NaN()}, {FailureRateThreshold: math.Inf(1)}},
		"minimum_calls":               {{MinimumCalls: -1}, {MinimumCalls: 2_000_000_000}},
		"window_size_seconds":         {{WindowSize: time.Millisecond}, {WindowSize: -time.Minute}, {WindowSize: 12500 * time.Microsecond}, {WindowSize: 120}},
		"timeout_seconds":             {{Timeout: -time.Second}, {Timeout: 60}, {Timeout: 2 * time.Hour}, {Timeout: math.MaxInt64}, {TimeoutMax: time.Second}},
		"timeout_multiplier":          {{TimeoutMultiplier: 0.5}, {TimeoutMultiplier: -1}, {TimeoutMultiplier: math.NaN()}, {TimeoutMultiplier: 101}},
		"timeout_max_seconds":         {{TimeoutMax: -1}, {TimeoutMax: 31 * 24 * time.Hour}},
		"timeout_jitter":              {{TimeoutJitter: 10}, {TimeoutJitter: breaker.Off}, {TimeoutJitter: math.Inf(-1)}},
		"half_open_max_calls":         {{HalfOpenMaxCalls: -3}, {HalfOpenMaxCalls: 1001}, {HalfOpenMaxCalls: breaker.Off}},
		"half_open_success_threshold": {{HalfOpenSuccessThreshold: -1}, {HalfOpenSuccessThreshold: 1001}},
		"probe_timeout_seconds":       {{ProbeTimeout: -time.Minute}, {ProbeTimeout: time.Microsecond}},
		"abandoned_probe":             {{AbandonedProbe: "fail"}, {AbandonedProbe: "Release"}},
		"slow_call_duration_seconds":  {{SlowCallDuration: -1}, {SlowCallDuration: time.Nanosecond}},
		"slow_call_rate_threshold":    {{SlowCallRateThreshold: 80}, {SlowCallRateThreshold: breaker.Off}},
		"recovery_ramp_seconds":       {{RecoveryRamp: -time.Second}},
		"ramp_floor":                  {{RampFloor: 1.5}, {RampFloor: -0.1}, {RampFloor: math.NaN()}},
		"mode":                        {{Mode: "off"}, {Mode: "Observe"}, {Mode: " observe"}},
		"retry_after":                 {{RetryAfter: "EXTEND"}},
		"retry_after_max_seconds":     {{RetryAfterMax: -time.Second}, {RetryAfterMax: 900}, {RetryAfterMax: 31 * 24 * time.Hour}},
		"abandoned_seconds":           {{Abandoned: 10}, {Abandoned: -time.Second}, {Abandoned: 31 * 24 * time.Hour}},
		"probe_settle_seconds":        {{ProbeSettle: time.Microsecond}, {ProbeSettle: -2}, {ProbeSettle: math.MaxInt64}},
		"minimum_reporters":           {{MinimumReporters: 9}, {MinimumReporters: -1}},
		"on_store_error":              {{OnStoreError: "deny "}, {OnStoreError: "Allow"}},
		"consistency":                 {{Consistency: "Cached"}, {Consistency: "eventual"}},
	}
}

func TestPolicy_ValidateNamesTheField(t *testing.T) {
	t.Parallel()
	for field, all := range invalidPolicies() {
		for _, p := range all {
			bad, is := errors.AsType[*breaker.PolicyError](p.Validate())
			if !is || bad.Field != field || bad.Allowed == "" {
				t.Errorf("%+v: got %v, want an error of %s", p, bad, field)
				continue
			}
			offable := slices.Contains([]string{"failure_threshold", "failure_rate_threshold", "ramp_floor", "abandoned_seconds", "probe_settle_seconds"}, field)
			if strings.Contains(bad.Error(), "breaker.Off") != offable {
				t.Errorf("%v: breaker.Off is named where it is invalid, or not where it is valid", bad)
			}
		}
	}
}

func TestKnob_FailedSetChangesNothing(t *testing.T) {
	t.Parallel()
	for _, k := range breaker.Knobs() {
		for _, v := range []any{nil, -1, breaker.Off, 1e9, math.NaN(), "Cached", "", -time.Second, time.Nanosecond, []byte("x")} {
			p := breaker.DefaultPolicy()
			if bad, is := errors.AsType[*breaker.PolicyError](k.Set(&p, v)); !is || bad.Field != k.Name || p != breaker.DefaultPolicy() {
				t.Errorf("%s to %v: %v, %+v", k.Name, v, bad, p)
			}
		}
	}
}
