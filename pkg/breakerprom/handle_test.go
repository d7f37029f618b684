package breakerprom

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breakerlog"
)

// settle has the observer of one agent told of one outcome of each settlement.
func settle(o breaker.Observer) {
	for _, s := range []struct {
		kind breaker.OutcomeKind
		r    breaker.Report
	}{
		{breaker.Success, breaker.Report{Counted: true, State: breaker.Closed}},
		{breaker.Failure, breaker.Report{Counted: true, State: breaker.Closed}},
		{breaker.Ignored, breaker.Report{Why: machine.CodeIgnored, State: breaker.Closed}},
		{breaker.Failure, breaker.Report{Why: machine.CodeLate}},
		{breaker.Success, breaker.Report{Why: machine.CodeDuplicate}},
		{breaker.Success, breaker.Report{Counted: true, Pending: true}}, // Flushed counts it
	} {
		o.Settled("agent", breaker.Outcome{Kind: s.kind}, s.r)
	}
}

// wantSettled checks that every settlement was counted n times under a label.
func wantSettled(t *testing.T, text, label string, n int) {
	t.Helper()
	for _, series := range []string{
		`calls_total{agent=%q,result="success"}`, `calls_total{agent=%q,result="failure"}`,
		`calls_total{agent=%q,result="ignored"}`, `outcomes_uncounted_total{agent=%q,why="late"}`,
		`outcomes_uncounted_total{agent=%q,why="duplicate"}`,
	} {
		wantLines(t, text, fmt.Sprintf("circuit_breaker_"+series+" %d", label, n))
	}
}

func TestForAgent_CountsAsTheCollectorDoes(t *testing.T) {
	t.Parallel()
	c := New(Options{})
	h := c.ForAgent("agent")
	settle(h)
	settle(c)
	settle(h)
	wantSettled(t, scrape(t, c), "agent", 3)
	h.Refused("agent", &breaker.OpenError{Reason: breaker.ReasonOpen})
	h.Flushed("agent", machine.Summary{Successes: 4}, breaker.Report{Counted: true})
	wantLines(t, scrape(t, c), `circuit_breaker_rejections_total{agent="agent",reason="open"} 1`,
		`circuit_breaker_calls_total{agent="agent",result="success"} 7`)
}

// A handle outlives the agent's place in the table: what it counts then begins new series, or is "_other".
func TestForAgent_AfterItsSeriesWereDropped(t *testing.T) {
	t.Parallel()
	ignored := func(o breaker.Observer) {
		o.Settled("agent", breaker.Outcome{Kind: breaker.Ignored}, breaker.Report{Why: machine.CodeIgnored})
	}
	t.Run("forgotten", func(t *testing.T) {
		t.Parallel()
		c := New(Options{})
		h := c.ForAgent("agent")
		settle(h)
		c.Forget("agent")
		if text := scrape(t, c); strings.Contains(text, `agent="agent"`) {
			t.Error(text)
		}
		settle(h)
		wantSettled(t, scrape(t, c), "agent", 1)
	})
	t.Run("evicted", func(t *testing.T) {
		t.Parallel()
		c := New(Options{MaxAgents: 1})
		h := c.ForAgent("agent")
		ignored(h)
		c.Settled("failing", breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Counted: true})
		for range 2 {
			ignored(h)
		}
		text := scrape(t, c)
		wantLines(t, text, `circuit_breaker_calls_total{agent="_other",result="ignored"} 2`)
		if strings.Contains(text, `agent="agent"`) {
			t.Error(text)
		}
		c.Forget("failing")
		ignored(h)
		wantLines(t, scrape(t, c), `circuit_breaker_calls_total{agent="_other",result="ignored"} 2`,
			`circuit_breaker_calls_total{agent="agent",result="ignored"} 1`)
	})
	t.Run("with none from the start", func(t *testing.T) {
		t.Parallel()
		c := New(Options{MaxAgents: -1})
		h := c.ForAgent("agent")
		settle(h)
		settle(h)
		wantSettled(t, scrape(t, c), "_other", 2)
	})
}

func TestForAgent_WhileForgottenLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c := New(Options{MaxAgents: 4})
	var wg sync.WaitGroup
	for i := range 8 {
		agent := fmt.Sprint("agent-", i/2)
		h := c.ForAgent(agent)
		wg.Go(func() {
			for range 200 {
				settle(h)
				c.Forget(agent)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		c.Forget(fmt.Sprint("agent-", i))
	}
	if text := scrape(t, c); strings.Contains(text, `agent="agent-`) {
		t.Error(text)
	}
}

// A handle shows what it sees of the breaker: a recovered agent makes room for one that is not closed.
func TestForAgent_ShowsARecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{MaxAgents: 1})
		h := c.ForAgent("agent")
		settle(h)
		time.Sleep(failingFor)
		c.Refused("agent", &breaker.OpenError{State: breaker.Open, Reason: breaker.ReasonOpen})
		c.Refused("second", &breaker.OpenError{State: breaker.Open, Reason: breaker.ReasonOpen})
		if hasSeries(t, c, "second") {
			t.Error("an open agent has the place of an open one")
		}
		h.Settled("agent", breaker.Outcome{Kind: breaker.Success}, breaker.Report{Counted: true, State: breaker.Closed})
		c.Refused("second", &breaker.OpenError{State: breaker.Open, Reason: breaker.ReasonOpen})
		if !hasSeries(t, c, "second") {
			t.Error("an open agent has no series while a closed one has")
		}
	})
}

// cached makes a Manager whose agents are cached.
func cached(t testing.TB, o breaker.Observer) *breaker.Manager {
	t.Helper()
	p := breaker.Policy{Consistency: breaker.Cached, FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off}
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p, Observer: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// observers are none, the Collector, and with it a log at level info.
func observers() map[string]breaker.Observer {
	log := breakerlog.New(slog.New(slog.NewJSONHandler(new(bytes.Buffer), nil)), breakerlog.Options{})
	return map[string]breaker.Observer{
		"none": nil, "prom": New(Options{}), "prom and log": breaker.Observers(New(Options{}), log),
	}
}

func TestCollector_CountsCachedCalls(t *testing.T) {
	t.Parallel()
	c := New(Options{})
	m := cached(t, c)
	for range 3 {
		_ = m.Do(t.Context(), "agent", func(context.Context) error { return nil })
		_ = m.Do(t.Context(), "agent", func(context.Context) error { return http.ErrHandlerTimeout })
		p, err := m.Acquire(t.Context(), "agent")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = p.Ignore(t.Context())
	}
	if err := m.Flush(t.Context(), "agent"); err != nil {
		t.Fatal(err)
	}
	wantLines(t, scrape(t, c), `circuit_breaker_calls_total{agent="agent",result="success"} 3`,
		`circuit_breaker_calls_total{agent="agent",result="failure"} 3`,
		`circuit_breaker_calls_total{agent="agent",result="ignored"} 3`)
}

func TestCollector_AllocatesNothingInACachedCall(t *testing.T) {
	ctx := t.Context()
	nothing := func(context.Context) error { return nil }
	for name, o := range observers() {
		m := cached(t, o)
		a, err := m.Agent("agent")
		if err != nil {
			t.Fatal(err)
		}
		for what, call := range map[string]func(){
			"Do":       func() { _ = m.Do(ctx, "agent", nothing) },
			"Agent.Do": func() { _ = a.Do(ctx, nothing) },
			"success": func() {
				p, _ := a.Acquire(ctx)
				_, _ = p.Settle(ctx, breaker.Outcome{Kind: breaker.Success})
			},
			"failure": func() { p, _ := a.Acquire(ctx); _, _ = p.Failure(ctx, "x") },
			"ignored": func() { p, _ := a.Acquire(ctx); _, _ = p.Ignore(ctx) },
		} {
			call()
			if n := testkit.FewestAllocs(call); n != 0 {
				t.Errorf("%s: %s allocates %v times", name, what, n)
			}
		}
	}
}

// BenchmarkCached compares calls with the Collector, and with the Collector and a log, with calls without an Observer.
// The two together may cost 100 ns, and allocate nothing.
func BenchmarkCached(b *testing.B) {
	ctx := context.Background()
	nothing := func(context.Context) error { return nil }
	for _, name := range []string{"none", "prom", "prom and log"} {
		m := cached(b, observers()[name])
		a, err := m.Agent("agent")
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range []struct {
			name string
			call func()
		}{
			{"Do", func() { _ = m.Do(ctx, "agent", nothing) }},
			{"pair", func() { p, _ := a.Acquire(ctx); _, _ = p.Settle(ctx, breaker.Outcome{Kind: breaker.Success}) }},
			{"pair that fails", func() { p, _ := a.Acquire(ctx); _, _ = p.Failure(ctx, "x") }},
			{"pair that is ignored", func() { p, _ := a.Acquire(ctx); _, _ = p.Ignore(ctx) }},
		} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.call()
				}
			})
		}
	}
}
