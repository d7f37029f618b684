package breaker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// DefaultOrigin is the origin of a value that no layer gave.
const DefaultOrigin = "default"

// maxOverride bounds the text of an override in bytes; every field at its longest takes less than 2 KiB.
const maxOverride = 16 << 10

// maxOverrideErrors bounds how much a hopeless override can make us say.
const maxOverrideErrors = 20

// Override is a partial policy: circuit_breaker_config in the agent registry, :config in Redis, the variables
// CIRCUIT_BREAKER_* of the environment. A nil field is not given. In JSON the fields have the names below and
// every _seconds is a decimal number of seconds, to 1 ms. What a field means stands at Policy.
//
// The zero value overrides nothing. Methods with a value receiver may be called concurrently.
type Override struct {
	Enabled                  *bool           `json:"enabled,omitempty"`
	FailureThreshold         *int            `json:"failure_threshold,omitempty"`
	FailureRateThreshold     *float64        `json:"failure_rate_threshold,omitempty"`
	Timeout                  *time.Duration  `json:"timeout_seconds,omitempty"`
	HalfOpenMaxCalls         *int            `json:"half_open_max_calls,omitempty"`
	WindowSize               *time.Duration  `json:"window_size_seconds,omitempty"`
	MinimumCalls             *int            `json:"minimum_calls,omitempty"`
	HalfOpenSuccessThreshold *int            `json:"half_open_success_threshold,omitempty"`
	ProbeTimeout             *time.Duration  `json:"probe_timeout_seconds,omitempty"`
	AbandonedProbe           *AbandonedProbe `json:"abandoned_probe,omitempty"`
	TimeoutMultiplier        *float64        `json:"timeout_multiplier,omitempty"`
	TimeoutMax               *time.Duration  `json:"timeout_max_seconds,omitempty"`
	TimeoutJitter            *float64        `json:"timeout_jitter,omitempty"`
	SlowCallDuration         *time.Duration  `json:"slow_call_duration_seconds,omitempty"`
	SlowCallRateThreshold    *float64        `json:"slow_call_rate_threshold,omitempty"`
	RecoveryRamp             *time.Duration  `json:"recovery_ramp_seconds,omitempty"`
	RampFloor                *float64        `json:"ramp_floor,omitempty"`
	Mode                     *Mode           `json:"mode,omitempty"`
	RetryAfter               *RetryAfter     `json:"retry_after,omitempty"`
	MinimumReporters         *int            `json:"minimum_reporters,omitempty"`
	OnStoreError             *OnStoreError   `json:"on_store_error,omitempty"`
	Consistency              *Consistency    `json:"consistency,omitempty"`
}

// PolicyField is one value of a policy as people write it.
type PolicyField struct {
	Name    string `json:"name"`    // as in an Override's JSON
	Value   any    `json:"value"`   // bool, int, float64 (of _seconds: seconds) or string
	Allowed string `json:"allowed"` // what else it could be, in words
}

// Layer is an override and where it came from, for people: "environment", "registry", "redis".
type Layer struct {
	Origin   string
	Override Override
}

// ParseOverride reads the JSON of an override, strictly. Text that is not one JSON object is an error that wraps
// encoding/json's; an unknown field, a field given twice, a wrong type and a value that no policy may have
// are *PolicyErrors, all of them joined. Rules between fields are left to Resolve.
func ParseOverride(data []byte) (Override, error) {
	if len(data) > maxOverride {
		return Override{}, fmt.Errorf("policy override: %d bytes; want at most %d", len(data), maxOverride)
	}
	var object json.RawMessage // checks the whole text, what trails included: no token below can fail
	if err := json.Unmarshal(data, &object); err != nil {
		return Override{}, fmt.Errorf("policy override: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return Override{}, errors.New("policy override: want a JSON object, {\"field\": value, …}")
	}
	var o Override
	var errs []error
	seen := map[string]bool{}
	for dec.More() && len(errs) < maxOverrideErrors {
		key, err := dec.Token()
		if err != nil {
			return Override{}, fmt.Errorf("policy override: %w", err)
		}
		name, _ := key.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return Override{}, fmt.Errorf("policy override: %s: %w", clip(name), err)
		}
		if seen[name] {
			err = &PolicyError{clip(name), "a second value", "each field once"}
		} else {
			err = o.setJSON(name, raw)
		}
		seen[name] = true
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return Override{}, errors.Join(errs...)
	}
	return o, nil
}

// Set gives the field of that name the value that text spells ("30", "0.5", "true", "observe"): the same words
// in a variable, on a command line and in JSON. An unknown name, or a value that no policy may have, is a
// *PolicyError and changes nothing.
func (o *Override) Set(name, text string) error {
	s, ok := findSetting(name)
	if !ok {
		return unknownField(name)
	}
	next := *o
	if !s.parse(&next, text) {
		return &PolicyError{name, `"` + clip(text) + `"`, s.allowed()}
	}
	if err := s.check(next); err != nil {
		return err
	}
	*o = next
	return nil
}

// setJSON is Set for one JSON value, whose type must be the field's.
func (o *Override) setJSON(name string, raw json.RawMessage) error {
	s, ok := findSetting(name)
	if !ok {
		return unknownField(name)
	}
	kind, text := jsonKind(raw), string(raw)
	if kind == "text" {
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf("policy override: %s: %w", name, err)
		}
	}
	if kind == s.kind {
		return o.Set(name, text)
	}
	switch kind {
	case "text":
		kind = `the text "` + clip(text) + `"`
	case "number", "boolean":
		kind = "the " + kind + " " + clip(text)
	}
	return &PolicyError{name, kind, s.allowed()}
}

func jsonKind(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "text"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

func unknownField(name string) error {
	var names []string
	for _, s := range settings() {
		names = append(names, s.name)
	}
	return &PolicyError{clip(name), "an unknown field", "one of " + strings.Join(names, ", ")}
}

// clip makes foreign text fit for an error: short, printable, without its quotes.
func clip(text string) string {
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// UnmarshalJSON is ParseOverride; null changes nothing.
func (o *Override) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	parsed, err := ParseOverride(data)
	if err == nil {
		*o = parsed
	}
	return err
}

// MarshalJSON writes the given fields only, so that ParseOverride reads back what it wrote.
func (o Override) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	for _, s := range settings() {
		v, ok := s.given(o)
		if !ok {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("policy override: %s: %w", s.name, err)
		}
		fmt.Fprintf(&out, ",%q:%s", s.name, text)
	}
	return append(append([]byte{'{'}, bytes.TrimPrefix(out.Bytes(), []byte{','})...), '}'), nil
}

// Validate reports, joined, every given value that no policy may have, each as a *PolicyError. Rules between
// fields are left to Resolve: the other field may stand in another layer.
func (o Override) Validate() error {
	var errs []error
	for _, s := range settings() {
		errs = append(errs, s.check(o))
	}
	return errors.Join(errs...)
}

// Apply returns p with the given fields replaced; but enabled, which is the AND of all layers, is only ever turned off [B21].
func (o Override) Apply(p Policy) Policy {
	for _, s := range settings() {
		s.apply(o, &p)
	}
	return p
}

// Resolve lays the layers over def, the last one on top, and says for every field where its value came from.
// defOrigins tells so for def; what it lacks (nil: everything) is DefaultOrigin. The origin of an enabled that is
// false is the first layer that said so. An error wraps a *PolicyError and names the layers it came from.
func Resolve(def Policy, defOrigins map[string]string, layers ...Layer) (Policy, map[string]string, error) {
	p, origins := def, map[string]string{}
	for _, s := range settings() {
		origins[s.name] = DefaultOrigin
		if origin := defOrigins[s.name]; origin != "" {
			origins[s.name] = origin
		}
	}
	for _, l := range layers {
		if err := l.Override.Validate(); err != nil {
			return Policy{}, nil, fmt.Errorf("policy from %s: %w", l.Origin, err)
		}
		for _, s := range settings() {
			if _, ok := s.given(l.Override); ok && (s.name != "enabled" || p.Enabled) {
				origins[s.name] = l.Origin
			}
		}
		p = l.Override.Apply(p)
	}
	err := p.Validate()
	if bad, is := errors.AsType[*PolicyError](err); is {
		from := bad.Field + " from " + origins[bad.Field]
		if bad.Field == "timeout_seconds" { // the one rule between fields
			from += ", timeout_max_seconds from " + origins["timeout_max_seconds"]
		}
		return Policy{}, nil, fmt.Errorf("policy (%s): %w", from, err)
	}
	return p, origins, err
}

// Fields lists the values of p in the order of the documentation. A half_open_success_threshold of 0 means as many as half_open_max_calls.
func (p Policy) Fields() []PolicyField {
	var fields []PolicyField
	for _, s := range settings() {
		fields = append(fields, PolicyField{Name: s.name, Value: s.value(p), Allowed: s.allowed()})
	}
	return fields
}
