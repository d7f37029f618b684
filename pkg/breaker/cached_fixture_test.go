package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// recordingStore is a Memory that notes the records that it is sent. It can delay its answers, and fail.
type recordingStore struct {
	breaker.Store

	mu       sync.Mutex
	records  []sentRecord
	acquires int
	inFlight map[string]int // records, by agent
	most     int            // records of one agent in flight at once
	latency  time.Duration
	err      error
}

type sentRecord struct {
	agent string
	at    time.Time
	sum   machine.Summary
}

func newRecordingStore() *recordingStore {
	return &recordingStore{Store: breaker.NewMemory(nil, 0), inFlight: map[string]int{}}
}

func (s *recordingStore) Apply(
	ctx context.Context, agent string, p breaker.Policy, op machine.Op,
) (machine.Result, error) {
	s.mu.Lock()
	err, latency := s.err, s.latency
	switch op.Verb {
	case machine.VerbAcquire:
		s.acquires++
	case machine.VerbRecord:
		s.records = append(s.records, sentRecord{agent, time.Now(), op.Summary})
		s.inFlight[agent]++
		s.most = max(s.most, s.inFlight[agent])
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.inFlight[agent]--
		}()
	}
	s.mu.Unlock()
	if err != nil {
		return machine.Result{}, err
	}
	if latency > 0 {
		<-time.After(latency)
	}
	return s.Store.Apply(ctx, agent, p, op)
}

// count returns the number of records, their sum, and the number of acquires.
func (s *recordingStore) count() (records int, sum machine.Summary, acquires int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		sum = sum.Join(r.sum)
	}
	return len(s.records), sum, s.acquires
}

// last returns when the last record of an agent came, and how many came.
func (s *recordingStore) last(agent string) (at time.Time, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.agent == agent {
			at, n = r.at, n+1
		}
	}
	return at, n
}

func (s *recordingStore) setLatency(latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = latency
}

func (s *recordingStore) setError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// slowStore delays the answers to acquires by a second.
type slowStore struct{ *recordingStore }

func (s *slowStore) Apply(
	ctx context.Context, agent string, p breaker.Policy, op machine.Op,
) (machine.Result, error) {
	r, err := s.recordingStore.Apply(ctx, agent, p, op)
	if op.Verb == machine.VerbAcquire {
		<-time.After(time.Second)
	}
	return r, err
}

// newCachedManager makes a Manager whose policy is Cached, and closes it at the end of the test.
func newCachedManager(
	t *testing.T, s breaker.Store, observer breaker.Observer, edit func(*breaker.Policy),
) *breaker.Manager {
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

// tripOnRunOnly leaves only one threshold: five failures in a row.
func tripOnRunOnly(p *breaker.Policy) { p.FailureRateThreshold = breaker.Off }

func acquire(t *testing.T, m *breaker.Manager, agent string) breaker.Permit {
	t.Helper()
	p, err := m.Acquire(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func acquireAll(t *testing.T, m *breaker.Manager, agent string, n int) []breaker.Permit {
	t.Helper()
	all := make([]breaker.Permit, n)
	for i := range all {
		all[i] = acquire(t, m, agent)
	}
	return all
}

func settleAll(t *testing.T, all []breaker.Permit, o breaker.Outcome) {
	t.Helper()
	for i := range all {
		if _, err := all[i].Settle(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// admittedBeforeRefusal returns how many calls the breaker admits before it refuses one; 1000 if it refuses none.
func admittedBeforeRefusal(t *testing.T, m *breaker.Manager, agent string) (n int) {
	t.Helper()
	for ; n < 1000; n++ {
		if _, err := m.Acquire(t.Context(), agent); errors.As(err, new(*breaker.OpenError)) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// makeBacklog settles calls of 5,000 other agents. If a record takes 1 ms, it takes more than 20 ms to send them.
func makeBacklog(t *testing.T, m *breaker.Manager, kind breaker.OutcomeKind) {
	t.Helper()
	all := make([]breaker.Permit, 5000)
	for i := range all {
		all[i] = acquire(t, m, fmt.Sprint("agent-", i))
	}
	settleAll(t, all, breaker.Outcome{Kind: kind})
}

// outcomeCounter counts the outcomes that an Observer is notified of.
type outcomeCounter struct {
	breaker.NopObserver

	mu      sync.Mutex
	pending int
	final   map[machine.Code]int64 // by Report.Why; "counted" if they count
}

func (c *outcomeCounter) Settled(_ string, _ breaker.Outcome, r breaker.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Pending {
		c.pending++
	} else {
		c.add(r, 1)
	}
}

func (c *outcomeCounter) Flushed(_ string, s machine.Summary, r breaker.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(r, s.Calls())
}

func (c *outcomeCounter) add(r breaker.Report, n int64) {
	if c.final == nil {
		c.final = map[machine.Code]int64{}
	}
	why := r.Why
	if r.Counted {
		why = "counted"
	}
	c.final[why] += n
}

// admissionCounter counts the calls that an Observer is notified of.
type admissionCounter struct {
	breaker.NopObserver

	n atomic.Int64
}

func (c *admissionCounter) Admitted(string, breaker.Permit) { c.n.Add(1) }
