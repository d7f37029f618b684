package breaker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// ledger is a Store that remembers what records it was sent, and can keep them waiting or fail them.
type ledger struct {
	breaker.Store

	mu      sync.Mutex
	records []entry
	asked   int // acquires
	flying  map[string]int
	most    int // records of one agent at once
	latency time.Duration
	err     error
}

type entry struct {
	agent string
	at    time.Time
	sum   machine.Summary
}

func newLedger() *ledger {
	return &ledger{Store: breaker.NewMemory(nil, 0), flying: map[string]int{}}
}

func (l *ledger) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	l.mu.Lock()
	err := l.err
	switch op.Verb {
	case machine.VerbAcquire:
		l.asked++
	case machine.VerbRecord:
		l.records = append(l.records, entry{agent, time.Now(), op.Summary})
		l.flying[agent]++
		l.most = max(l.most, l.flying[agent])
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.flying[agent]--
		}()
	}
	latency := l.latency
	l.mu.Unlock()
	if err != nil {
		return machine.Result{}, err
	}
	if latency > 0 {
		<-time.After(latency)
	}
	return l.Store.Apply(ctx, agent, p, op)
}

// count gives how many records came, what they hold in all, and how often leave was asked for.
func (l *ledger) count() (records int, sum machine.Summary, asked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.records {
		sum = sum.Join(e.sum)
	}
	return len(l.records), sum, l.asked
}

// cachedOn makes a Manager whose policy is cached, and closes it at the end.
func cachedOn(t *testing.T, s breaker.Store, observer breaker.Observer, edit func(*breaker.Policy)) *breaker.Manager {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{
		Store: s, Reporter: "test", Observer: observer,
		PerAgent: func(context.Context, string) breaker.Policy {
			p := breaker.DefaultPolicy()
			p.Consistency = breaker.Cached
			if edit != nil {
				edit(&p)
			}
			return p
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

func acquire(t *testing.T, m *breaker.Manager, agent string) breaker.Permit {
	t.Helper()
	p, err := m.Acquire(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// told counts what an observer is told of outcomes.
type told struct {
	breaker.NopObserver

	mu      sync.Mutex
	pending int
	flushed map[machine.Code]int64 // why, or "counted" -> calls
}

func (o *told) Settled(_ string, _ breaker.Outcome, r breaker.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Pending {
		o.pending++
	} else {
		o.add(r, 1)
	}
}

func (o *told) Flushed(_ string, s machine.Summary, r breaker.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(r, s.Calls())
}

func (o *told) add(r breaker.Report, n int64) {
	if o.flushed == nil {
		o.flushed = map[machine.Code]int64{}
	}
	why := r.Why
	if r.Counted {
		why = "counted"
	}
	o.flushed[why] += n
}
