package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// shortcut is a model that, where a short way applies, goes the long way too and compares. It holds its tongue where the two may
// differ: when the long way heals, after a hand on other keys than :state, and after the clock went back.
type shortcut struct {
	*Model

	high         int64
	touched      map[string]bool
	short, equal int
}

func (s *shortcut) Edit(agent string, e Edit) error {
	if e.Do == DelAll {
		delete(s.touched, agent)
	} else if e.Key != State && e.Key != Log {
		s.touched[agent] = true
	}
	return s.Model.Edit(agent, e)
}

func (s *shortcut) Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	raw := s.agents[agent]
	params := p.Params(0, 0)
	params.TTLMs = s.TTLMs
	after, res := machine.Step(params, machine.Load(raw, nowMs), op, nowMs)
	kept := machine.Save(raw, after, res.Events)
	_, counted, isCounted := machine.PlainlyCounted(raw, params, op, nowMs)
	refused, isRefused := machine.PlainlyRefused(raw, params, nowMs)
	got, err := s.Model.Apply(nowMs, agent, p, op)
	if err != nil || nowMs < s.high {
		return got, err
	}
	s.high = nowMs
	var want machine.Result
	switch {
	case isCounted:
		want = counted
	case isRefused && op.Verb == machine.VerbAcquire:
		want = refused
	default:
		return got, nil
	}
	s.short++
	if len(res.Events) > 0 && res.Events[0].Kind == machine.EventHealed || s.touched[agent] {
		return got, nil
	}
	s.equal++
	if !sameResult(want, res) {
		return got, fmt.Errorf("short way %+v, long way %+v", want, res)
	}
	if a, b := Lines(s.agents[agent]), Lines(kept); !slices.Equal(a, b) {
		return got, fmt.Errorf("keys after the short way %q, after the long way %q", without(s.agents[agent], kept), without(kept, s.agents[agent]))
	}
	return got, nil
}

// TestAShortWayEndsWhereTheLongOneDoes is what lets the short ways stand: [B3], [B5]–[B9], [B25].
func TestAShortWayEndsWhereTheLongOneDoes(t *testing.T) {
	t.Parallel()
	s, model := &shortcut{Model: NewModel(), touched: map[string]bool{}}, NewModel()
	for i := range 2000 {
		agent := fmt.Sprintf("s%d", i)
		s.high = 0
		if err := Replay(s, model, agent, Choices(5, i), steps); err != nil {
			t.Fatalf("history %d: %v", i, err)
		}
		model.Forget(agent)
		s.Forget(agent)
	}
	t.Logf("%d short ways, %d of them compared", s.short, s.equal)
	if s.equal < 500 {
		t.Errorf("%d short ways compared, want 500 at least", s.equal)
	}
}
