package redisstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// appendArgs appends ARGV as the headers of lua/load.lua and of the verb number it.
func (s *Store) appendArgs(a []any, c *call) []any {
	op := &c.op
	a = append(a, s.nowMs(), c.agent.who, c.policy.text, c.policy.rule, op.Draw+" "+strconv.FormatInt(op.JitterPPM, 10))
	switch op.Verb {
	case machine.VerbAcquire:
		a = append(a, op.Token, strconv.FormatInt(op.RampPPM, 10)+" "+strconv.FormatInt(op.UselessAfterMs, 10))
	case machine.VerbRecord:
		a = append(a, op.Epoch, op.Token, summaryText(op))
	case machine.VerbReplay:
		a = append(a, op.Epoch, op.Reporter)
		for _, b := range op.Batch {
			a = append(a, fmt.Sprintf("%d %d %d %d", b.StartMs, b.Successes, b.Failures, b.Slow))
		}
	case machine.VerbRenew:
		a = append(a, op.Epoch, op.Token)
	case machine.VerbForce:
		f := op.Force
		a = append(a, string(f.Target), f.LengthMs, f.RampMs,
			machine.Addressed(f.Actor, f.Address, f.Reason), machine.Clip(f.Reason), f.Actor,
			bit(f.Protected), bit(f.Override), string(f.Yield))
	}
	return a
}

// summaryText is ARGV[8] of lua/record.lua: the number of successes if there is nothing else, or the whole summary and
// its reporter.
func summaryText(op *machine.Op) any {
	m := &op.Summary
	if m.Failures == 0 && m.Slow == 0 {
		return m.Successes
	}
	b := make([]byte, 0, 64)
	for _, n := range [...]int64{m.Successes, m.Failures, m.Slow, m.Lead, m.Trail, m.MaxRun, m.WaitMs} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	return string(append(b, op.Reporter...))
}

// packedPolicy is a policy as the scripts take it: ARGV[3], but for the agent's shift between the two parts, and
// ARGV[4].
type packedPolicy struct {
	before, after string
	rule          any
	params        machine.Params
}

// agentPolicy is a packedPolicy with one agent's ARGV[3].
type agentPolicy struct {
	*packedPolicy
	text any
}

func (p *packedPolicy) of(agent string) agentPolicy { return p.shifted(p.params.Shift(agent)) }

func (p *packedPolicy) shifted(ms int64) agentPolicy {
	return agentPolicy{p, p.before + strconv.FormatInt(ms, 10) + p.after}
}

// maxPacked bounds the cache of packed policies. Agents share few policies.
const maxPacked = 1000

// packed packs a policy, once.
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
	before := []any{
		mode, p.FailureThreshold, p.FailureRatePPM, p.MinimumCalls, p.SlowRatePPM, bit(p.TrackReporters),
		p.WindowMs, p.TTLMs,
	}
	after := []any{
		p.HistoryMinutes, p.Reporters, p.TimeoutMs, p.TimeoutMaxMs, p.MultiplierMilli, p.JitterPPM, p.MaxCalls, p.Need,
		p.ProbeTimeoutMs, bit(p.AbandonedFails), p.RampMs, p.RampFloorPPM, retry, p.RetryMaxMs,
	}
	out := &packedPolicy{rule: p.Rule(), params: p, before: spaced(before) + " ", after: " " + spaced(after)}
	if s.packs.Add(1) > maxPacked {
		s.policies.Clear()
		s.packs.Store(1)
	}
	s.policies.Store(p, out)
	return out
}

// spaced joins values by blanks, which Sprintln puts between any two.
func spaced(values []any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// reader reads a reply item by item. It keeps the first error, after which every item is empty.
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
		r.err = fmt.Errorf("script reply holds %T in place of a text", v)
	}
	return s
}

func (r *reader) number() int64 {
	v := r.next()
	n, ok := v.(int64)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("script reply holds %T in place of a number", v)
	}
	return n
}

// parseReply reads {code, state, epoch, now_ms, retry_after_ms, lease_ms, reason, flags, run, hold, left_ms, counted,
// event...}. The fast path answers the acquire of a closed breaker by the first three, and a record by the first four,
// and the run unless that is 0.
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
	// A breaker that has never made a transition has neither hold nor ramp.
	r.Plain = r.Code == machine.CodeOK && r.State == machine.Closed && r.Epoch == machine.ZeroEpoch
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
	raw := machine.Raw{
		State: in.maybeText(), Timestamp: in.maybeText(), Calls: in.hash(), Control: in.hash(), Probes: in.hash(),
	}
	for _, v := range in.list() {
		if s, ok := v.(string); ok {
			raw.Log = append(raw.Log, s)
		}
	}
	raw.History = in.hash()
	has := func(digit string) bool { return strings.Contains(planted, digit) }
	raw.Planted = machine.Planted{
		State: has("1"), Timestamp: has("2"), Calls: has("3"), Control: has("4"), Probes: has("5"), History: has("7"),
	}
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
		r.err = fmt.Errorf("script reply holds %T in place of a list", v)
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
