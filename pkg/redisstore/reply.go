package redisstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// appendArgs writes ARGV as lua/load.lua and the verb's header count it.
func (s *Store) appendArgs(a []any, c *call) []any {
	e, p, op := c.agent, c.policy, &c.op
	a = append(a, s.nowMs(), e.who, c.shift, op.Draw, op.JitterPPM, p.mode, p.rule, p.numbers)
	switch op.Verb {
	case machine.VerbAcquire:
		a = append(a, op.Token, op.RampPPM)
		if op.UselessAfterMs > 0 {
			a = append(a, op.UselessAfterMs)
		}
	case machine.VerbRecord:
		m := op.Summary
		a = append(a, op.Epoch, op.Token, m.Successes, m.Failures, m.Slow, op.Reporter)
		if m.Failures > 0 {
			a = append(a, m.Lead, m.Trail, m.MaxRun, m.WaitMs)
		}
	case machine.VerbReplay:
		a = append(a, op.Epoch, op.Reporter)
		for _, b := range op.Batch {
			a = append(a, b.StartMs, b.Successes, b.Failures, b.Slow)
		}
	case machine.VerbRenew:
		a = append(a, op.Epoch, op.Token)
	case machine.VerbForce:
		f := op.Force
		a = append(a, string(f.Target), f.LengthMs, f.RampMs, f.Reason, machine.Clip(f.Reason), f.Actor, bit(f.Protected), bit(f.Override))
	}
	return a
}

// packedPolicy is a policy as the scripts take it, ARGV[6] to ARGV[8].
type packedPolicy struct {
	mode, rule, numbers any
	params              machine.Params
}

// maxPacked bounds the policies that are kept packed; agents share few.
const maxPacked = 1000

// packed gives the policy as the scripts take it, made once a policy.
func (s *Store) packed(p machine.Params) *packedPolicy {
	if known, ok := s.policies.Load(p); ok {
		return known.(*packedPolicy) //nolint:forcetypeassert,errcheck // nothing else is stored
	}
	retry := 0
	if p.RetryExtends {
		retry = 1
	} else if p.RetryOpens {
		retry = 2
	}
	mode := bit(p.Enabled)
	if p.Enabled && p.Observe {
		mode = "2"
	}
	out := &packedPolicy{mode: mode, rule: p.Rule(), params: p}
	all := []any{
		p.WindowMs, p.TTLMs, p.FailureThreshold, p.FailureRatePPM, p.MinimumCalls, p.SlowRatePPM, bit(p.TrackReporters),
		p.HistoryMinutes, p.Reporters,
		p.TimeoutMs, p.TimeoutMaxMs, p.MultiplierMilli, p.JitterPPM, p.MaxCalls, p.Need, p.ProbeTimeoutMs, bit(p.AbandonedFails),
		p.RampMs, p.RampFloorPPM, retry, p.RetryMaxMs,
	}
	out.numbers = strings.TrimSpace(fmt.Sprintln(all...)) // Sprintln puts a blank between any two
	if s.packs.Add(1) > maxPacked {
		s.policies.Clear()
		s.packs.Store(1)
	}
	s.policies.Store(p, out)
	return out
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// reader takes a reply apart; the first surprise is kept and spoils the rest.
type reader struct {
	items []any
	err   error
}

func (r *reader) next() any {
	if len(r.items) == 0 {
		if r.err == nil {
			r.err = errors.New("script reply is too short")
		}
		return nil
	}
	v := r.items[0]
	r.items = r.items[1:]
	return v
}

func (r *reader) text() string {
	v := r.next()
	s, ok := v.(string)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("script reply holds %T where a text is due", v)
	}
	return s
}

func (r *reader) number() int64 {
	v := r.next()
	n, ok := v.(int64)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("script reply holds %T where a number is due", v)
	}
	return n
}

// parseReply reads {code, state, epoch, now_ms, retry_after_ms, lease_ms, reason, flags, run, hold, left_ms, counted, event...}. The
// fast path answers the acquire of a closed breaker with the first three only, a record with four, and with run unless that is 0.
func parseReply(items []any) (machine.Result, error) {
	in := &reader{items: items}
	r := machine.Result{Code: machine.Code(in.text()), State: machine.State(in.text()), Epoch: in.text()}
	if r.Fast = len(in.items) < 3; len(in.items) == 0 {
		r.Plain = true
		return r, in.err
	}
	r.NowMs = in.number()
	if len(in.items) == 0 {
		return r, in.err
	}
	if len(in.items) == 1 {
		r.Run = in.number()
		return r, in.err
	}
	r.RetryAfterMs, r.LeaseMs = in.number(), in.number()
	r.Reason = machine.Reason(in.text())
	flags := in.number()
	r.Probe, r.Fast, r.Run = flags&1 != 0, flags&2 != 0, in.number()
	r.Hold, r.LeftMs, r.Counted = machine.State(in.text()), in.number(), in.number()
	for len(in.items) > 0 && in.err == nil {
		e, ok := machine.ParseEvent(in.text())
		if !ok {
			return r, errors.New("script reply holds an event that cannot be read")
		}
		r.Events = append(r.Events, e)
	}
	return r, in.err
}

// parseRaw reads inspect's {now_ms, planted, state, open_timestamp, calls, control, probes, log, history}.
func parseRaw(items []any) (machine.Raw, int64, error) {
	in := &reader{items: items}
	now, planted := in.number(), in.text()
	raw := machine.Raw{State: in.maybeText(), Timestamp: in.maybeText(), Calls: in.hash(), Control: in.hash(), Probes: in.hash()}
	for _, v := range in.list() {
		if s, ok := v.(string); ok {
			raw.Log = append(raw.Log, s)
		}
	}
	raw.History = in.hash()
	has := func(digit string) bool { return strings.Contains(planted, digit) }
	raw.Planted = machine.Planted{State: has("1"), Timestamp: has("2"), Calls: has("3"), Control: has("4"), Probes: has("5"), History: has("7")}
	return raw, now, in.err
}

func (r *reader) maybeText() *string {
	if len(r.items) > 0 && r.items[0] == nil {
		r.next()
		return nil
	}
	s := r.text()
	return &s
}

func (r *reader) list() []any {
	v := r.next()
	l, ok := v.([]any)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("script reply holds %T where a list is due", v)
	}
	return l
}

func (r *reader) hash() map[string]string {
	l := r.list()
	if len(l) < 2 {
		return nil
	}
	m := make(map[string]string, len(l)/2)
	for i := 0; i+1 < len(l); i += 2 {
		name, _ := l[i].(string)
		value, _ := l[i+1].(string)
		m[name] = value
	}
	return m
}
