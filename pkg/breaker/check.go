package breaker

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// What a caller passes in is judged here, before a Store sees it, so that every Store refuses the same. The fields of a
// Policy are judged by Policy.Validate.

// wantWord describes a [ValidWord].
const wantWord = "1 to 64 of A-Z a-z 0-9 . _ : @ -"

// unset returns an error that wraps ErrUnset.
func unset(what string) error { return fmt.Errorf("%s: %w", what, ErrUnset) }

// made refuses a Manager that NewManager did not make.
func (m *Manager) made() error {
	if m == nil || m.agents == nil {
		return unset("Manager")
	}
	return nil
}

// usable is made, and refuses a call without a context.
func (m *Manager) usable(ctx context.Context) error {
	if err := m.made(); err != nil {
		return err
	}
	if ctx == nil {
		return unset("context")
	}
	return nil
}

// ready reports whether the Manager is usable and ctx has not ended. Once it has, nobody waits for an answer, and the
// call says nothing about the agent. It is inlined, for cached mode; notReady has the error.
func (m *Manager) ready(ctx context.Context) bool {
	return m != nil && m.agents != nil && ctx != nil && ctx.Err() == nil
}

func (m *Manager) notReady(ctx context.Context) error {
	if err := m.usable(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// manager is nil for an Agent that Manager.Agent did not make.
func (a *Agent) manager() *Manager {
	if a == nil {
		return nil
	}
	return a.m
}

// made refuses a Classic that Manager.Classic did not make.
func (c *Classic) made() error {
	if c == nil || c.m == nil {
		return unset("Classic")
	}
	return nil
}

// made refuses a Memory that NewMemory did not make.
func (m *Memory) made() error {
	if m == nil || m.nowMs == nil {
		return unset("Memory")
	}
	return nil
}

// made refuses a Fallback that NewFallback did not make, or made without what it needs.
func (f *Fallback) made() error {
	if f == nil || f.local == nil {
		return unset("Fallback")
	}
	return f.unusable
}

// checkStore refuses a Store that cannot answer. what names it.
func checkStore(what string, s Store) error {
	if v := reflect.ValueOf(s); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return unset(what)
	}
	switch s := s.(type) {
	case *Memory:
		return s.made()
	case *Fallback:
		return s.made()
	}
	return nil
}

// checkPolicy is Policy.Validate, and refuses a policy that could never trip: one that needs several reporters, of
// which this process could not be one [B23].
func (o *Options) checkPolicy(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.MinimumReporters > 1 && o.Reporter == "" {
		return &PolicyError{"minimum_reporters", strconv.Itoa(p.MinimumReporters), "1, or set Options.Reporter"}
	}
	return nil
}

// Validate returns an error that wraps [ErrBadOutcome] if o has no valid Kind, or a Reporter that is no [ValidWord].
// Other fields are not refused, so that no outcome is lost for them: a negative Duration or RetryAfter counts as 0, a
// RetryAfter counts up to Policy.RetryAfterMax, and Class and ReportID are any text.
func (o Outcome) Validate() error { return o.check() }

func (o *Outcome) check() error {
	switch {
	case o.Kind != Success && o.Kind != Failure && o.Kind != Ignored:
		return fmt.Errorf("kind %q: %w", o.Kind, ErrBadOutcome)
	case o.Reporter != "" && !ValidWord(o.Reporter):
		return fmt.Errorf("reporter %q, want %s: %w", o.Reporter, wantWord, ErrBadOutcome)
	}
	return nil
}

// ForceError is an invalid value of a [Force]: the name of its field, the value, and what is allowed, as texts for
// people.
type ForceError struct{ Field, Value, Allowed string }

func (e *ForceError) Error() string {
	return fmt.Sprintf("%s: %s is not allowed: want %s", e.Field, e.Value, e.Allowed)
}

// maxReason bounds Force.Reason, in bytes. The log keeps less of it.
const maxReason = 500

// checkForce returns a *ForceError for the first invalid field of f.
func checkForce(f *Force) error {
	duration := func(field string, ms int64) error {
		if most := MaxDuration.Milliseconds(); ms < 0 || ms > most {
			return &ForceError{field, strconv.FormatInt(ms, 10), fmt.Sprintf("milliseconds from 0 to %d", most)}
		}
		return nil
	}
	switch f.Target {
	case HoldOpen, HoldClosed, ResetClosed, ResetHalfOpen, ReleaseHold:
	default:
		allowed := fmt.Sprintf("one of %q", []Target{HoldOpen, HoldClosed, ResetClosed, ResetHalfOpen, ReleaseHold})
		return &ForceError{"target", fmt.Sprintf("%.64q", f.Target), allowed}
	}
	if err := duration("length_ms", f.LengthMs); err != nil {
		return err
	}
	if err := duration("ramp_ms", f.RampMs); err != nil {
		return err
	}
	if !printable(f.Reason, maxReason) {
		allowed := fmt.Sprintf("at most %d bytes of printable text", maxReason)
		return &ForceError{"reason", fmt.Sprintf("%.64q", f.Reason), allowed}
	}
	switch f.Yield {
	case YieldNone, YieldOthers, YieldAny:
	default:
		allowed := fmt.Sprintf("one of %q", []Yield{YieldNone, YieldOthers, YieldAny})
		return &ForceError{"yield", fmt.Sprintf("%.64q", f.Yield), allowed}
	}
	if f.ID != "" && !machine.IsHex16(f.ID) {
		return &ForceError{"id", fmt.Sprintf("%.64q", f.ID), "16 hex digits"}
	}
	if !ValidWord(f.Actor) {
		return &ForceError{"actor", fmt.Sprintf("%.64q", f.Actor), wantWord}
	}
	return nil
}

// printable reports whether s is at most most bytes of text on one line.
func printable(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
