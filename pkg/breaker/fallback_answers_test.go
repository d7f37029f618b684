package breaker

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func newRememberingFallback(t *testing.T, most int) *Fallback {
	t.Helper()
	f := NewFallback(FallbackOptions{Ping: func(context.Context) error { return nil }, MaxAgents: most})
	t.Cleanup(f.Close)
	return f
}

func TestFallback_EquivalentAnswerDoesNotAllocate(t *testing.T) { // not parallel: it counts allocations
	f := newRememberingFallback(t, 0)
	r := machine.Result{Code: machine.CodeOK, State: Closed, Epoch: "1", NowMs: 1_000_000}
	f.remember("a", &r)
	plain := machine.Result{Code: machine.CodeOK, State: Closed, Epoch: "1", Plain: true}
	if n := testing.AllocsPerRun(100, func() { f.remember("a", &r); f.remember("a", &plain) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFallback_RemembersMaxAgents(t *testing.T) {
	t.Parallel()
	f := newRememberingFallback(t, 10)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				f.remember(strconv.Itoa(g%2*1000+i), &machine.Result{State: Open, Epoch: strconv.Itoa(i), NowMs: int64(i + 1)})
			}
		})
	}
	wg.Wait()
	f.remember("last", &machine.Result{State: Open, Epoch: "last", NowMs: 1, LeftMs: 5})
	if n := f.lastAnswers.Len(); n != 10 {
		t.Errorf("%d agents, want 10", n)
	}
	if got := f.lastAnswer("last").epoch; got != "last" {
		t.Errorf("the last agent has epoch %q", got)
	}
}

// Made-up names push out no ban and no open breaker, even beyond the bound.
func TestFallback_RemembersWhatMatters(t *testing.T) { // OmniRoute PR 4114, anticapture PR 2148, Hystrix 1737
	t.Parallel()
	for name, kept := range map[string]machine.Result{
		"banned":      {State: Open, Epoch: "1", NowMs: 1, Hold: Open},
		"held closed": {State: Closed, Epoch: "1", NowMs: 1, Hold: Closed},
		"open":        {State: Open, Epoch: "1", NowMs: 1, LeftMs: 100},
		"half-open":   {State: HalfOpen, Epoch: "1", NowMs: 1},
		"failing":     {State: Closed, Epoch: "1", NowMs: 1, Run: 2},
	} {
		f := newRememberingFallback(t, 10)
		for i := range 8 {
			f.remember("kept-"+strconv.Itoa(i), &machine.Result{State: Closed, Epoch: "0", NowMs: 1}) // and then it changes
			f.remember("kept-"+strconv.Itoa(i), &kept)
		}
		for i := range 1000 {
			f.remember("made-up-"+strconv.Itoa(i), &machine.Result{State: Closed, Epoch: "0"})
		}
		for i := range 8 {
			if a := f.lastAnswer("kept-" + strconv.Itoa(i)); a.epoch != "1" {
				t.Errorf("%s: agent %d is forgotten", name, i)
			}
		}
		if n := f.lastAnswers.Len(); n > 10 {
			t.Errorf("%s: %d agents, want 10", name, n)
		}
	}
}

func TestFallback_RemembersAnswersThatDiffer(t *testing.T) {
	t.Parallel()
	open := machine.Result{State: Open, Epoch: "1", NowMs: 1000, LeftMs: 500}
	held := machine.Result{State: Closed, Epoch: "1", NowMs: 1000, Hold: Closed}
	closed := machine.Result{State: Closed, Epoch: "1", NowMs: 1000}
	with := func(r machine.Result, change func(*machine.Result)) machine.Result {
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		before, then machine.Result
		same         bool
	}{
		"closed, later":       {closed, with(closed, func(r *machine.Result) { r.NowMs = 2000 }), true},
		"closed, fast path":   {with(closed, func(r *machine.Result) { r.Run = 2 }), with(closed, func(r *machine.Result) { r.NowMs = 0 }), true},
		"closed, new epoch":   {closed, with(closed, func(r *machine.Result) { r.NowMs, r.Epoch = 0, "2" }), false},
		"closed, a failure":   {closed, with(closed, func(r *machine.Result) { r.Run = 1 }), false},
		"open, later":         {open, with(open, func(r *machine.Result) { r.NowMs, r.LeftMs = 1200, 300 }), true},
		"open for longer":     {open, with(open, func(r *machine.Result) { r.NowMs = 1200 }), false},
		"half-open since":     {open, with(open, func(r *machine.Result) { r.State = HalfOpen }), false},
		"held, later":         {held, with(held, func(r *machine.Result) { r.NowMs = 9000 }), true},
		"held for a time now": {held, with(held, func(r *machine.Result) { r.LeftMs = 50 }), false},
		"held the other way":  {held, with(held, func(r *machine.Result) { r.Hold = Open }), false},
		"the hold was lifted": {held, closed, false},
		"held since":          {closed, held, false},
	} {
		f := newRememberingFallback(t, 0)
		f.remember("a", &c.before)
		last, _ := f.lastAnswers.Load("a")
		was := last.Load()
		f.remember("a", &c.then)
		if same := last.Load() == was; same != c.same {
			t.Errorf("%s: equivalent is %v, want %v", name, same, c.same)
		}
	}
}
