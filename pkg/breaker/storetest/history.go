package storetest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// BaseMs is the moment at which histories begin: far enough ahead of any real clock that no key of a test expires by itself.
const BaseMs = 4_102_444_800_000 // 2100-01-01

// source turns bytes into choices, so that a fuzzer can steer a history. At its end every choice is 0.
type source struct{ data []byte }

func (s *source) n(limit int) int {
	if limit <= 1 || len(s.data) < 2 {
		s.data = nil
		return 0
	}
	v := binary.LittleEndian.Uint16(s.data)
	s.data = s.data[2:]
	return int(v) % limit
}

func (s *source) one(percent int) bool { return s.n(100) >= 100-percent }

func pick[T any](s *source, from ...T) T { return from[s.n(len(from))] }

// permit is what a history remembers of an admitted call.
type permit struct{ epoch, token string }

// history drives an engine and the model with the same operations.
type history struct {
	*twins

	src     *source
	now     int64
	high    int64 // the latest moment so far
	policy  breaker.Policy
	permits []permit
	draws   int
	crowd   bool // many reporters, so that the oldest is forgotten
	trail   []note
}

// Histories runs one history of steps operations (or until the bytes end) and returns the first difference.
func (h *history) run(steps int) error {
	for range steps {
		if len(h.src.data) == 0 {
			return nil
		}
		h.moveClock()
		if err := h.expire(); err != nil {
			return err
		}
		if h.src.one(8) && !h.crowd {
			h.policy = randomPolicy(h.src)
			h.note("policy %+v", h.policy)
		}
		if h.src.one(15) && !h.crowd {
			if err := h.edit(); err != nil {
				return err
			}
		}
		if err := h.step(); err != nil {
			return err
		}
	}
	return nil
}

// note is a line of the story, written out only if it is to be told.
type note struct {
	at     int64
	format string
	args   []any
}

func (h *history) note(format string, args ...any) {
	h.trail = append(h.trail, note{h.now - BaseMs, format, args})
}

func (h *history) story() string {
	var b strings.Builder
	for _, n := range h.trail {
		fmt.Fprintf(&b, "%+d "+n.format+"\n", append([]any{n.at}, n.args...)...)
	}
	return b.String()
}

// step applies one operation to both.
func (h *history) step() error {
	op := h.operation()
	op.ShiftMs = h.model.Params(h.policy).Shift(h.agent)
	h.note("%+v", op)
	got, err := h.apply(h.now, h.policy, op)
	if err != nil {
		return err
	}
	h.note("-> %+v", got)
	if op.Verb == machine.VerbAcquire && got.Code == machine.CodeOK {
		p := permit{epoch: got.Epoch}
		if got.LeaseMs > 0 {
			p.token = op.Token
		}
		h.permits = append(h.permits, p)
	}
	return nil
}

// expire deletes all keys when their instant has come, as Redis would [B25].
func (h *history) expire() error {
	raw, _ := h.model.Dump(h.now, h.agent)
	s := machine.Load(raw)
	if s.ExpiresMs == 0 || s.ExpiresMs > h.now {
		return nil
	}
	h.note("expired")
	return h.hand(Edit{Do: DelAll})
}

// moveClock leans on the edges: deadlines, bucket edges, leases, ±1 ms; sometimes the clock goes back.
func (h *history) moveClock() {
	raw, _ := h.model.Dump(h.now, h.agent)
	s := machine.Load(raw)
	edges := []int64{
		s.OpenedMs + s.WaitMs, s.Hold.StartMs + s.Hold.LengthMs, s.Ramp.StartMs + s.Ramp.LengthMs,
		s.Ramp.StartMs + s.Ramp.LengthMs/2, s.UpstreamMs + s.UpstreamLengthMs, s.ExpiresMs, s.ExpiresMs - h.model.TTLMs,
	}
	for _, token := range slices.Sorted(maps.Keys(s.Leases)) {
		l := s.Leases[token]
		edges = append(edges, l.StartMs+l.LengthMs, l.IssuedMs+h.policy.TimeoutMax.Milliseconds())
	}
	for _, start := range slices.Sorted(maps.Keys(s.Buckets)) {
		edges = append(edges, start+h.policy.WindowSize.Milliseconds())
	}
	for _, name := range slices.Sorted(maps.Keys(s.Reporters)) {
		edges = append(edges, s.Reporters[name]+h.policy.WindowSize.Milliseconds())
	}
	width := (h.policy.WindowSize.Milliseconds() + 11) / 12
	shift := h.model.Params(h.policy).Shift(h.agent)
	edges = append(edges, h.now-(h.now-shift)%width+width)
	switch choice := h.src.n(100); {
	case choice < 40:
	case choice < 50:
		h.now++
	case choice < 80:
		if at := edges[h.src.n(len(edges))] + int64(h.src.n(3)) - 1; at > h.now && at < BaseMs+1_000_000_000_000 {
			h.now = at
		}
	case choice < 94:
		h.now += int64(h.src.n(60_000))
	case choice < 97:
		h.now += 7_300_000
	default:
		h.now -= int64(h.src.n(30_000))
	}
	h.high = max(h.high, h.now)
}

func (h *history) draw() string {
	h.draws++
	return fmt.Sprintf("%015x", h.draws)
}

func (h *history) token() string {
	h.draws++
	return fmt.Sprintf("%016x", uint64(h.src.n(65536))<<32|uint64(h.draws))
}

func (h *history) operation() machine.Op {
	op := machine.Op{Draw: h.draw(), JitterPPM: int64(h.src.n(10)) * 111_111, RampPPM: int64(h.src.n(11)) * 99_999}
	switch c := h.src.n(100); {
	case c < 42:
		op.Verb, op.Token = machine.VerbAcquire, h.token()
		if h.src.one(30) {
			op.UselessAfterMs = h.now + pick(h.src, int64(250), 1, 0, -1, -5000)
		}
		if len(h.permits) > 0 && h.src.one(14) { // sent again
			if p := h.somePermit(); p.token != "" {
				op.Token = p.token
			}
		}
	case c < 90:
		h.record(&op)
	case c < 92:
		h.replay(&op)
	case c < 94:
		op.Verb = machine.VerbRenew
		if len(h.permits) > 0 {
			p := h.somePermit()
			op.Epoch, op.Token = p.epoch, p.token
		}
	default:
		op.Verb, op.Force = machine.VerbForce, randomForce(h.src)
	}
	if op.Verb == machine.VerbForce && h.crowd {
		op.Verb, op.Token = machine.VerbAcquire, h.token()
	}
	if op.Verb == machine.VerbRecord && h.src.one(2) { // forged: the epoch of now, and no lease
		raw, _ := h.model.Dump(h.now, h.agent)
		op.Epoch, op.Token = machine.Load(raw).Epoch, ""
	}
	if op.Verb == machine.VerbRecord && h.src.one(5) { // a lease is given back by its token alone
		op.Epoch, op.Summary = "", pick(h.src, machine.Summary{}, op.Summary)
	}
	if op.Verb == machine.VerbRecord && h.src.one(6) { // a round given by hand, a bare report on it
		op.Epoch, op.Token = "", ""
	}
	return op
}

// replay is a batch of what was counted while the store was away, sometimes sent again.
func (h *history) replay(op *machine.Op) {
	raw, _ := h.model.Dump(h.now, h.agent)
	op.Verb, op.Token = machine.VerbReplay, h.token()
	if h.src.one(20) {
		op.Token = pick(h.src, "00000000000000b1", "00000000000000b2")
	}
	op.Epoch = machine.Load(raw).Epoch
	if h.src.one(15) && len(h.permits) > 0 {
		op.Epoch = h.somePermit().epoch
	}
	op.Reporter = pick(h.src, "a", "b", "")
	window := h.policy.WindowSize.Milliseconds()
	width, start := (window+11)/12, h.now-h.now%((window+11)/12)
	for i := range 1 + h.src.n(12) {
		b := machine.Bucket{StartMs: start - int64(i)*width + pick(h.src, int64(0), 0, 0, 1, 2*width)}
		if h.src.one(15) {
			b.StartMs = h.now - window + int64(h.src.n(3)) - 1
		}
		b.Successes, b.Failures = int64(h.src.n(3)), int64(h.src.n(3))
		b.Slow = int64(h.src.n(int(b.Successes+b.Failures) + 1))
		op.Batch = append(op.Batch, b)
	}
}

// somePermit prefers the newest; it does not take it away, so that outcomes come double and late.
func (h *history) somePermit() permit {
	if h.src.one(30) {
		return h.permits[h.src.n(len(h.permits))]
	}
	return h.permits[len(h.permits)-1-h.src.n(min(2, len(h.permits)))]
}

func (h *history) record(op *machine.Op) {
	op.Verb = machine.VerbRecord
	op.Reporter = pick(h.src, "a", "b", "c", "")
	if h.crowd {
		op.Reporter = fmt.Sprintf("r%d", h.src.n(40))
	}
	if h.src.one(5) {
		op.ReportID = pick(h.src, "x", "y", "z")
	}
	if len(h.permits) > 0 && h.src.one(85) {
		p := h.somePermit()
		op.Epoch, op.Token = p.epoch, p.token
		if h.src.one(8) {
			op.Token = pick(h.src, "", "00000000000000aa")
		}
	}
	op.Summary = randomSummary(h.src)
}

func randomOutcome(src *source) machine.Summary {
	o := breaker.Outcome{Slow: src.one(30)}
	switch c := src.n(100); {
	case c < 45:
		o.Kind = breaker.Failure
		if src.one(25) {
			o.RetryAfter = pick(src, time.Second, 10*time.Second, 90*time.Second, 3*time.Hour)
		}
	case c < 92:
		o.Kind = breaker.Success
	default:
		o.Kind = breaker.Ignored
	}
	return o.Summary()
}

func randomSummary(src *source) machine.Summary {
	s := randomOutcome(src)
	if src.one(20) {
		for range 1 + src.n(12) {
			s = s.Join(randomOutcome(src))
		}
	}
	if src.one(2) {
		s = machine.Summary{Failures: 300, Lead: 300, Trail: 300, MaxRun: 300}
	}
	return s
}

func randomForce(src *source) breaker.Force {
	return breaker.Force{
		Target:   pick(src, breaker.HoldOpen, breaker.HoldClosed, breaker.ResetClosed, breaker.ResetHalfOpen),
		LengthMs: pick(src, int64(0), 1, 5_000, 100_000), RampMs: pick(src, int64(0), 10_000, 600_000),
		Reason:    pick(src, "manual", "flooding quarantine of the agent, seen by two people in the night of the 11th — see the ticket", strings.Repeat("é—", 20), ""),
		Actor:     pick(src, "alice", "bob@example.org"),
		Protected: src.one(25), Override: src.one(50),
	}
}

func randomPolicy(src *source) breaker.Policy {
	p := breaker.DefaultPolicy()
	p.Disabled = src.one(4)
	p.FailureThreshold = pick(src, 5, breaker.Off, 1, 3, 255)
	p.FailureRateThreshold = pick(src, 0.5, breaker.Off, 1, 0.3, 0.333333)
	p.MinimumCalls = pick(src, 10, 1, 3)
	p.WindowSize = pick(src, 120*time.Second, 10*time.Second, 100*time.Millisecond, 12*time.Millisecond, 1001*time.Millisecond)
	p.Timeout = pick(src, 60*time.Second, time.Second, time.Millisecond)
	p.TimeoutMax = pick(src, time.Hour, 60*time.Second, 100*time.Second)
	p.TimeoutMultiplier = pick(src, 1, 2, 1.5, 100)
	p.TimeoutJitter = pick(src, 0, 0.1, 1)
	p.HalfOpenMaxCalls = pick(src, 3, 1, 5, 2)
	p.HalfOpenSuccessThreshold = pick(src, 0, 1, 3, 2)
	p.ProbeTimeout = pick(src, 60*time.Second, time.Second, 5*time.Millisecond, 2*time.Hour)
	p.AbandonedProbe = pick(src, breaker.ReleaseAbandoned, breaker.FailAbandoned)
	p.SlowCallDuration = time.Second
	p.SlowCallRateThreshold = pick(src, 0, 0.5, 0.4, 1)
	p.RecoveryRamp = pick(src, 0, 10*time.Second, 10*time.Minute)
	p.RampFloor = pick(src, 0.1, breaker.Off, 1)
	p.Mode = pick(src, breaker.Enforce, breaker.Enforce, breaker.Enforce, breaker.Enforce, breaker.Observe)
	p.RetryAfter = pick(src, breaker.RetryAfterExtend, breaker.RetryAfterIgnore, breaker.RetryAfterOpen)
	p.MinimumReporters = pick(src, 1, 1, 2, 3)
	return p
}
