package breaker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// In every state that has a start time [B1].
func TestMemory_ClockThatGoesBackExtendsNoWait(t *testing.T) {
	t.Parallel()
	const hours = 2 * 3_600_000
	for _, c := range []struct {
		name  string
		into  func(m *memoryClock)
		limit int64 // of the wait that is left, in ms
	}{
		{"open", func(m *memoryClock) { m.failures(5) }, 60_000},
		{"held", func(m *memoryClock) { m.force(breaker.HoldOpen, 90_000, 0) }, 90_000},
		{"probing", func(m *memoryClock) {
			m.force(breaker.ResetHalfOpen, 0, 0)
			for range 3 {
				m.acquire(0)
			}
		}, 60_000},
		{"ramping", func(m *memoryClock) { m.force(breaker.ResetClosed, 0, 600_000) }, 1000},
	} {
		m := &memoryClock{t: t, now: 1_800_000_000_000}
		m.Memory = breaker.NewMemory(func() int64 { return m.now }, 0)
		c.into(m)
		m.now -= hours
		r := m.acquire(999_999)
		if r.Code != machine.CodeRefused || r.RetryAfterMs <= 0 || r.RetryAfterMs > c.limit {
			t.Errorf("%s: two hours back: %+v; want a refusal for %d ms at most", c.name, r, c.limit)
		}
		m.now += c.limit + 600_000
		if r := m.acquire(0); r.Code != machine.CodeOK {
			t.Errorf("%s: after its wait: %+v", c.name, r)
		}
	}
}

// Clauses [B1], [B9].
func TestMemory_BucketsOfTheFutureAreDropped(t *testing.T) {
	t.Parallel()
	m := &memoryClock{t: t, now: 1_800_000_000_000}
	m.Memory = breaker.NewMemory(func() int64 { return m.now }, 0)
	m.failures(4)
	m.apply(machine.Op{Verb: machine.VerbRecord, Summary: machine.One(false, false, 0)}) // ends the run
	m.now -= 3_600_000
	m.failures(1)
	v, err := m.Inspect(t.Context(), "agent", breaker.DefaultPolicy())
	if w := v.Window(v.NowMs, 120_000); err != nil || w != (machine.Counts{Failures: 1}) || len(v.Buckets) != 1 {
		t.Errorf("an hour back: %+v of %v (%v)", w, v.Buckets, err)
	}
}

type memoryClock struct {
	*breaker.Memory

	t     *testing.T
	now   int64
	draws int
}

func (m *memoryClock) apply(op machine.Op) machine.Result {
	m.t.Helper()
	m.draws++
	op.Draw = fmt.Sprintf("%015x", m.draws)
	r, err := m.Apply(m.t.Context(), "agent", breaker.DefaultPolicy(), op)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func (m *memoryClock) acquire(rampPPM int64) machine.Result {
	return m.apply(machine.Op{Verb: machine.VerbAcquire, Token: fmt.Sprintf("%016x", m.draws+1), RampPPM: rampPPM})
}

func (m *memoryClock) failures(n int) {
	for range n {
		m.apply(machine.Op{Verb: machine.VerbRecord, Summary: machine.One(true, false, 0)})
	}
}

func (m *memoryClock) force(target breaker.Target, lengthMs, rampMs int64) {
	m.apply(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: target, LengthMs: lengthMs, RampMs: rampMs, Actor: "test", Reason: "r"}})
}

func TestMemory_ItsOwnClockIsMonotonic(t *testing.T) {
	t.Parallel()
	m := breaker.NewMemory(nil, 0)
	last := int64(0)
	for range 1000 {
		v, err := m.Inspect(t.Context(), "agent", breaker.DefaultPolicy())
		if err != nil || v.NowMs < last || v.NowMs > time.Now().Add(time.Minute).UnixMilli() {
			t.Fatalf("now %d after %d (%v)", v.NowMs, last, err)
		}
		last = v.NowMs
	}
}
