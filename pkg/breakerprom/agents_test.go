package breakerprom

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// full is a table of three agents, which three made-up names have filled.
func full(s breaker.Source, important ...string) *Collector {
	m := New(Options{MaxAgents: 3, Important: func(agent string) bool { return slices.Contains(important, agent) }})
	m.Bind(s)
	for i := range 5 {
		ok(m, fmt.Sprint("made-up-", i))
	}
	return m
}

func ok(m *Collector, agent string) {
	m.Settled(agent, breaker.Outcome{Kind: breaker.Success}, breaker.Report{Counted: true, State: breaker.Closed})
}

func fail(m *Collector, agent string, after breaker.State) {
	m.Settled(agent, breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Counted: true, State: after})
}

func hasSeries(t *testing.T, m *Collector, agent string) bool {
	t.Helper()
	return strings.Contains(scrape(t, m), `agent="`+agent+`"`)
}

// OmniRoute PR 4114, anticapture PR 2148, Hystrix 1737: names that callers made up had all the places.
func TestAgents_RealOnesDisplaceMadeUpOnes(t *testing.T) {
	t.Parallel()
	open := breaker.Event{Kind: machine.EventOpened, From: breaker.Closed, To: breaker.Open}
	for name, shown := range map[string]func(m *Collector){
		"it fails":         func(m *Collector) { fail(m, "real", breaker.Closed) },
		"it fails, cached": func(m *Collector) { m.Flushed("real", machine.Summary{Failures: 1}, breaker.Report{Counted: true}) },
		"its probe fails":  func(m *Collector) { m.Probed("real", breaker.Outcome{Kind: breaker.Failure}) },
		"it opens":         func(m *Collector) { m.Event("real", open, false) },
		"it refuses": func(m *Collector) {
			m.Refused("real", &breaker.OpenError{State: breaker.Open, Reason: breaker.ReasonOpen})
		},
		"its outcome is late": func(m *Collector) {
			m.Settled("real", breaker.Outcome{Kind: breaker.Success}, breaker.Report{State: breaker.HalfOpen, Why: machine.CodeLate})
		},
		"it is registered":                     func(m *Collector) { ok(m, "registered") },
		"it fails for a metric of the program": func(m *Collector) { m.With("real", true, func(string) {}); ok(m, "real") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := full(breaker.Source{}, "registered")
			shown(m)
			if !hasSeries(t, m, "real") && !hasSeries(t, m, "registered") {
				t.Error(scrape(t, m))
			}
			if n := strings.Count(scrape(t, m), `calls_total{agent="made-up-`); n != 2 {
				t.Errorf("%d made-up names have series, want 2", n)
			}
			ok(m, "made-up-0") // the one that made room
			wantLines(t, scrape(t, m), `circuit_breaker_calls_total{agent="_other",result="success"} 3`)
		})
	}
}

func TestAgents_AScrapeShowsOpenOnes(t *testing.T) {
	t.Parallel()
	m := full(breaker.Source{States: func(context.Context) (map[string]breaker.State, error) {
		return map[string]breaker.State{
			"made-up-0": breaker.Closed, "made-up-9": breaker.Closed, "open-elsewhere": breaker.Open, "testing": breaker.HalfOpen,
		}, nil
	}})
	wantLines(t, scrape(t, m), `circuit_breaker_state{agent="open-elsewhere"} 1`, `circuit_breaker_state{agent="testing"} 2`)
}

// Only a lesser agent makes room: what comes and goes has no use as a series.
func TestAgents_EqualOnesDoNotDisplaceEachOther(t *testing.T) {
	t.Parallel()
	m := full(breaker.Source{}, "r1", "r2", "r3", "r4")
	for _, a := range []string{"f1", "f2", "f3", "f4"} {
		fail(m, a, breaker.Closed)
	}
	if hasSeries(t, m, "f4") || !hasSeries(t, m, "f1") {
		t.Error("a failing agent has the place of another")
	}
	for _, a := range []string{"o1", "o2", "o3", "o4"} {
		fail(m, a, breaker.Open)
	}
	if hasSeries(t, m, "o4") || hasSeries(t, m, "f1") || !hasSeries(t, m, "o1") {
		t.Error("the open ones have not the places of the failing ones, or one has that of another")
	}
	for _, a := range []string{"r1", "r2", "r3", "r4"} {
		ok(m, a)
	}
	if hasSeries(t, m, "r4") || hasSeries(t, m, "o1") || !hasSeries(t, m, "r3") {
		t.Error("at most three have series, registered or not")
	}
}

func TestAgents_AreLessAgainWhenTheyRecover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := full(breaker.Source{})
		for _, a := range []string{"o1", "o2", "o3"} {
			fail(m, a, breaker.Open)
		}
		m.Event("o2", breaker.Event{Kind: machine.EventClosed, From: breaker.HalfOpen, To: breaker.Closed}, false)
		fail(m, "f1", breaker.Closed) // o2 has failed lately too
		if hasSeries(t, m, "f1") {
			t.Error("displaced an agent that failed lately")
		}
		time.Sleep(failingFor)
		fail(m, "f1", breaker.Closed)
		if !hasSeries(t, m, "f1") || hasSeries(t, m, "o2") {
			t.Error("o2 has been well for long enough")
		}
	})
}

func TestAgents_NoneIsNone(t *testing.T) {
	t.Parallel()
	m := New(Options{MaxAgents: -1, Important: func(string) bool { return true }})
	fail(m, "a", breaker.Open)
	if hasSeries(t, m, "a") {
		t.Error(scrape(t, m))
	}
}
