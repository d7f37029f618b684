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

// source turns bytes into choices, so that a fuzzer can steer a history. When they end, every choice is 0.
type source struct{ data []byte }

// n chooses a number below limit.
func (s *source) n(limit int) int {
	if limit <= 1 || len(s.data) < 2 {
		s.data = nil
		return 0
	}
	v := binary.LittleEndian.Uint16(s.data)
	s.data = s.data[2:]
	return int(v) % limit
}

// chance is true in so many of a hundred cases.
func (s *source) chance(percent int) bool { return s.n(100) >= 100-percent }

func pick[T any](s *source, from ...T) T { return from[s.n(len(from))] }

// permit is what a history, or a transcript, remembers of an admitted call.
type permit struct{ epoch, token string }

// permitOf is the permit that an acquire with that token gave.
func permitOf(res machine.Result, token string) permit {
	if res.LeaseMs == 0 {
		token = ""
	}
	return permit{res.Epoch, token}
}

// history drives both sides of a comparison by random choices.
type history struct {
	*comparison

	src           *source
	now           int64
	policy        breaker.Policy
	permits       []permit
	draws         int
	manyReporters bool // more than are remembered; little else happens
	notes         []note
}

// note is one line of what a failure shows, formatted only then.
type note struct {
	atMs   int64
	format string
	args   []any
}

func (h *history) note(format string, args ...any) {
	h.notes = append(h.notes, note{h.now - BaseMs, format, args})
}

// replay runs the history that data chooses, until the operations or the bytes end.
func replay(c *comparison, data []byte, operations int) error {
	h := &history{comparison: c, src: &source{data}, now: BaseMs}
	h.policy = randomPolicy(h.src)
	if h.manyReporters = h.src.chance(10); h.manyReporters {
		h.policy.MinimumReporters, h.policy.Mode, h.policy.RetryAfter = 8, breaker.Enforce, breaker.RetryAfterIgnore
		h.policy.WindowSize, h.policy.FailureThreshold = 120*time.Second, breaker.Off
		h.policy.FailureRateThreshold = breaker.Off
	}
	if h.src.chance(10) {
		c.model.KeepHistory(0)
		defer c.model.KeepHistory(60)
	}
	c.engine.KeepHistory(int(c.model.historyMinutes))
	h.note("policy %+v, history %d", h.policy, c.model.historyMinutes)
	for range operations {
		if len(h.src.data) == 0 {
			break
		}
		if err := h.step(); err != nil {
			var story strings.Builder
			for _, n := range h.notes {
				fmt.Fprintf(&story, "%+d "+n.format+"\n", append([]any{n.atMs}, n.args...)...)
			}
			return fmt.Errorf("%w\nafter:\n%s", err, &story)
		}
	}
	return nil
}

// step moves the clock, sometimes changes the policy or edits the keys, and applies one operation.
func (h *history) step() error {
	h.moveClock()
	if at := h.loaded().ExpiresMs; at > 0 && at <= h.now { // deletes the keys, as Redis would by its own clock [B25]
		if err := h.edits(Edit{Do: DelAll}); err != nil {
			return err
		}
	}
	if h.src.chance(8) && !h.manyReporters {
		h.policy = randomPolicy(h.src)
		h.note("policy %+v", h.policy)
	}
	if h.src.chance(15) && !h.manyReporters {
		if err := h.edits(h.randomEdits()...); err != nil {
			return err
		}
	}
	op := h.operation()
	op.ShiftMs = h.model.Params(h.policy).Shift(h.agent)
	h.note("%+v", op)
	got, err := h.apply(h.now, h.policy, op)
	if err != nil {
		return err
	}
	h.note("-> %+v", got)
	if op.Verb == machine.VerbAcquire && got.Code == machine.CodeOK {
		h.permits = append(h.permits, permitOf(got, op.Token))
	}
	return nil
}

func (h *history) loaded() machine.Loaded { return machine.Load(h.raw()) }

// moveClock prefers the edges, and a millisecond beside them: deadlines, leases, buckets. Sometimes it goes back.
func (h *history) moveClock() {
	s, p := h.loaded(), h.model.Params(h.policy)
	edges := []int64{
		s.OpenedMs + s.WaitMs, s.Hold.StartMs + s.Hold.LengthMs, s.Ramp.StartMs + s.Ramp.LengthMs,
		s.Ramp.StartMs + s.Ramp.LengthMs/2, s.UpstreamMs + s.UpstreamLengthMs, s.ExpiresMs, s.ExpiresMs - p.TTLMs,
	}
	for _, token := range slices.Sorted(maps.Keys(s.Leases)) {
		l := s.Leases[token]
		edges = append(edges, l.StartMs+l.LengthMs, l.IssuedMs+p.TimeoutMaxMs)
	}
	for _, start := range slices.Sorted(maps.Keys(s.Buckets)) {
		edges = append(edges, start+p.WindowMs)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Reporters)) {
		edges = append(edges, s.Reporters[name]+p.WindowMs)
	}
	width := bucketMs(p)
	edges = append(edges, h.now-(h.now-p.Shift(h.agent))%width+width)
	switch c := h.src.n(100); {
	case c < 40:
	case c < 50:
		h.now++
	case c < 80:
		if at := edges[h.src.n(len(edges))] + int64(h.src.n(3)) - 1; at > h.now && at < BaseMs+1_000_000_000_000 {
			h.now = at
		}
	case c < 94:
		h.now += int64(h.src.n(60_000))
	case c < 97:
		h.now += 7_300_000
	default:
		h.now -= int64(h.src.n(30_000))
	}
}

// bucketMs is the width of a bucket [B9].
func bucketMs(p machine.Params) int64 { return (p.WindowMs + 11) / 12 }

func (h *history) draw() string {
	h.draws++
	return fmt.Sprintf("%015x", h.draws)
}

func (h *history) token() string {
	h.draws++
	return fmt.Sprintf("%016x", uint64(h.src.n(65536))<<32|uint64(h.draws))
}

func (h *history) operation() machine.Op {
	op := machine.Op{
		Draw: h.draw(), JitterPPM: int64(h.src.n(10)) * 111_111, RampPPM: int64(h.src.n(11)) * 99_999,
	}
	switch c := h.src.n(100); {
	case c < 42, c >= 92 && h.manyReporters:
		h.acquire(&op)
	case c < 88:
		h.record(&op)
	case c < 90:
		h.replayBatch(&op)
	case c < 92:
		op.Verb = machine.VerbRenew
		if len(h.permits) > 0 {
			p := h.somePermit()
			op.Epoch, op.Token = p.epoch, p.token
		}
	default:
		op.Verb, op.Force = machine.VerbForce, randomForce(h.src)
	}
	return op
}

func (h *history) acquire(op *machine.Op) {
	op.Verb, op.Token = machine.VerbAcquire, h.token()
	if h.src.chance(30) {
		op.UselessAfterMs = h.now + pick(h.src, int64(250), 1, 0, -1, -5000)
	}
	if len(h.permits) > 0 && h.src.chance(14) { // sent again
		if p := h.somePermit(); p.token != "" {
			op.Token = p.token
		}
	}
}

func (h *history) record(op *machine.Op) {
	op.Verb = machine.VerbRecord
	op.Reporter = pick(h.src, "a", "b", "c", "")
	if h.manyReporters {
		op.Reporter = fmt.Sprintf("r%d", h.src.n(40))
	}
	if h.src.chance(5) {
		op.ReportID = pick(h.src, "x", "y", "z")
	}
	if len(h.permits) > 0 && h.src.chance(85) {
		p := h.somePermit()
		op.Epoch, op.Token = p.epoch, p.token
		if h.src.chance(8) {
			op.Token = pick(h.src, "", "00000000000000aa")
		}
	}
	op.Summary = randomSummary(h.src)
	if h.src.chance(2) { // forged: the epoch of now, and no lease
		op.Epoch, op.Token = h.loaded().Epoch, ""
	}
	if h.src.chance(5) { // a lease given back by its token alone
		op.Epoch, op.Summary = "", pick(h.src, machine.Summary{}, op.Summary)
	}
	if h.src.chance(6) { // no permit, while there may be leases
		op.Epoch, op.Token = "", ""
	}
}

// replayBatch replays what a replica counted while the store was unavailable, sometimes twice.
func (h *history) replayBatch(op *machine.Op) {
	op.Verb, op.Token, op.Epoch = machine.VerbReplay, h.token(), h.loaded().Epoch
	if h.src.chance(20) {
		op.Token = pick(h.src, "00000000000000b1", "00000000000000b2")
	}
	if h.src.chance(15) && len(h.permits) > 0 {
		op.Epoch = h.somePermit().epoch
	}
	op.Reporter = pick(h.src, "a", "b", "")
	p := h.model.Params(h.policy)
	width := bucketMs(p)
	for i := range 1 + h.src.n(12) {
		b := machine.Bucket{StartMs: h.now - h.now%width - int64(i)*width + pick(h.src, int64(0), 0, 0, 1, 2*width)}
		if h.src.chance(15) {
			b.StartMs = h.now - p.WindowMs + int64(h.src.n(3)) - 1
		}
		b.Successes, b.Failures = int64(h.src.n(3)), int64(h.src.n(3))
		b.Slow = int64(h.src.n(int(b.Successes+b.Failures) + 1))
		op.Batch = append(op.Batch, b)
	}
}

// somePermit prefers the newest. It does not take the permit away, so that outcomes come twice and late.
func (h *history) somePermit() permit {
	if h.src.chance(30) {
		return h.permits[h.src.n(len(h.permits))]
	}
	return h.permits[len(h.permits)-1-h.src.n(min(2, len(h.permits)))]
}

func randomSummary(src *source) machine.Summary {
	s := randomOutcome(src)
	if src.chance(20) {
		for range 1 + src.n(12) {
			s = s.Join(randomOutcome(src))
		}
	}
	if src.chance(2) {
		s = machine.Summary{Failures: 300, Lead: 300, Trail: 300, MaxRun: 300}
	}
	return s
}

func randomOutcome(src *source) machine.Summary {
	o := breaker.Outcome{Slow: src.chance(40)}
	switch c := src.n(100); {
	case c < 45:
		o.Kind = breaker.Failure
		if src.chance(25) {
			o.RetryAfter = pick(src, time.Second, 10*time.Second, 90*time.Second, 3*time.Hour)
		}
	case c < 92:
		o.Kind = breaker.Success
	default:
		o.Kind = breaker.Ignored
	}
	return o.Summary()
}

func randomForce(src *source) breaker.Force {
	return breaker.Force{
		Target: pick(src, breaker.HoldOpen, breaker.HoldClosed, breaker.ResetClosed, breaker.ResetHalfOpen,
			breaker.ReleaseHold),
		LengthMs: pick(src, int64(0), 1, 5_000, 100_000),
		RampMs:   pick(src, int64(0), 10_000, 600_000),
		Reason: pick(src, "manual", "", strings.Repeat("é—", 20),
			"flooding quarantine of the agent, seen by two people in the night of the 11th — see the ticket"),
		Actor:     pick(src, "alice", "bob@example.org"),
		Protected: src.chance(25), Override: src.chance(50),
		Yield: pick(src, breaker.YieldNone, breaker.YieldOthers, breaker.YieldAny),
		ID:    pick(src, "", "", "", "00000000000000aa", "00000000000000bb"),
	}
}

func randomPolicy(src *source) breaker.Policy {
	const ms = time.Millisecond
	p := breaker.DefaultPolicy()
	p.Disabled = src.chance(4)
	p.FailureThreshold = pick(src, 5, breaker.Off, 1, 3, 255)
	p.FailureRateThreshold = pick(src, 0.5, breaker.Off, 1, 0.3, 0.333333)
	p.MinimumCalls = pick(src, 10, 1, 3)
	p.WindowSize = pick(src, 120*time.Second, 10*time.Second, 100*ms, 12*ms, 1001*ms)
	p.Timeout = pick(src, 60*time.Second, time.Second, ms)
	p.TimeoutMax = pick(src, time.Hour, 60*time.Second, 100*time.Second)
	p.TimeoutMultiplier = pick(src, 1, 2, 1.5, 100)
	p.TimeoutJitter = pick(src, 0, 0.1, 1)
	p.HalfOpenMaxCalls = pick(src, 3, 1, 5, 2)
	p.HalfOpenSuccessThreshold = pick(src, 0, 1, 3, 2)
	p.ProbeTimeout = pick(src, 60*time.Second, time.Second, 5*ms, 2*time.Hour)
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
