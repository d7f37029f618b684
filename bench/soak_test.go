package main

import (
	"bytes"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

var soakFor = flag.Duration("soak", 2*time.Second, "how long TestSoak lasts; whether anything grows is told from 30s on")

// TestSoak is `make soak`. In the two seconds that it takes otherwise it shows that everything adds up.
func TestSoak(t *testing.T) {
	var table bytes.Buffer
	err := runSoak(t.Context(), newSoakPlan(*soakFor), &table)
	t.Logf("\n%s", table.String())
	if err != nil {
		t.Fatal(err)
	}
}

func TestAGrowingFigureIsNoticedAndAFlatOneIsNot(t *testing.T) {
	t.Parallel()
	const lasts = time.Minute
	for name, c := range map[string]struct {
		heap func(second float64) float64 // MiB
		want string
	}{
		"flat":                {func(float64) float64 { return 30 }, "flat"},
		"full after a third":  {func(at float64) float64 { return 30 + min(at, 20) }, "flat"},
		"leaks":               {func(at float64) float64 { return 30 + at }, "**grew**"},
		"one peak at the end": {func(at float64) float64 { return 30 + 100*max(0, at-58.5) }, "flat"},
	} {
		var samples []soakSample
		for at := 0.5; at < lasts.Seconds(); at++ {
			samples = append(samples, soakSample{at: at, heap: c.heap(at) * mebi})
		}
		s := &soak{soakPlan: soakPlan{lasts: lasts}, book: newLedger()}
		_, rest, _ := strings.Cut(s.judge(samples), "| heap")
		row, _, _ := strings.Cut(rest, "\n")
		if !strings.HasSuffix(row, "| "+c.want+" |") {
			t.Errorf("%s: %s", name, row)
		}
	}
}

func TestOnlyTheNamesOfLateCountForWhatExpires(t *testing.T) {
	t.Parallel()
	var samples []soakSample
	for at := range 20 {
		samples = append(samples, soakSample{at: float64(at), names: 10*float64(at) + 100*max(0, float64(at)-10)})
	}
	got := recent(samples, 2*time.Second)
	if got[2].names != 20 || got[9].names != 30 || got[19].names != 330 || samples[19].names != 1090 {
		t.Errorf("%v", got)
	}
}

func TestASoakInWhichNothingHappensProvesNothing(t *testing.T) {
	t.Parallel()
	s := &soak{soakPlan: soakPlan{lasts: time.Minute}, book: newLedger()}
	s.judge(nil)
	if len(s.faults) == 0 {
		t.Fatal("no fault")
	}
}

func TestTheLedgerKnowsWhatBecameOfEachOutcome(t *testing.T) {
	t.Parallel()
	l := newLedger()
	a := l.open("a")
	three := machine.Summary{Successes: 3}
	l.Flushed("a", three, breaker.Report{Counted: true}) // before two of the Settled
	for range 3 {
		l.Settled("a", breaker.Outcome{}, breaker.Report{Counted: true, Pending: true})
	}
	l.Settled("a", breaker.Outcome{}, breaker.Report{Why: breaker.CodeUnknown, Degraded: true})
	l.Settled("a", breaker.Outcome{}, breaker.Report{Counted: true, Degraded: true})
	l.Settled("a", breaker.Outcome{}, breaker.Report{Why: machine.CodeLate})
	l.Settled("b", breaker.Outcome{}, breaker.Report{Counted: true})
	if a.acked.Load() != 3 || a.unknown.Load() != 1 || a.pending.Load() != 0 {
		t.Errorf("a: %d acknowledged, %d unknown, %d pending", a.acked.Load(), a.unknown.Load(), a.pending.Load())
	}
	if l.acked.Load() != 4 || l.degraded.Load() != 1 || l.uncounted.Load() != 1 {
		t.Errorf("all: %d acknowledged, %d in memory, %d not counted", l.acked.Load(), l.degraded.Load(), l.uncounted.Load())
	}
}

func TestACountThatIsOffIsAFault(t *testing.T) {
	t.Parallel()
	s := &soak{soakPlan: soakPlan{ttl: time.Minute}, book: newLedger()}
	r := &resident{name: "a", account: &account{}}
	r.account.acked.Store(5)
	r.account.unknown.Store(2)
	for _, counted := range []int64{5, 7} {
		s.compare(r, counted)
	}
	if len(s.faults) != 0 || s.within.Load() != 2 {
		t.Fatalf("%v, %d", s.faults, s.within.Load())
	}
	for _, counted := range []int64{4, 8} {
		s.compare(r, counted)
	}
	if len(s.faults) != 2 {
		t.Fatalf("%v", s.faults)
	}
	s.era.Add(2)
	s.compare(r, 0)
	if len(s.faults) != 2 || s.lost.Load() != 1 {
		t.Fatalf("after an outage: %v, %d", s.faults, s.lost.Load())
	}
	r.era = s.era.Load()
	r.account.beat(50 * time.Second)
	r.account.beat(51 * time.Second)
	s.compare(r, 0)
	if len(s.faults) != 2 || s.expired.Load() != 1 {
		t.Fatalf("after the TTL: %v, %d", s.faults, s.expired.Load())
	}
}
