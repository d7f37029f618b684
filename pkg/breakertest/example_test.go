package breakertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakertest"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// Quotes is code under test: it asks the agent "pricing", and while its breaker is open it answers what it knew last.
type Quotes struct {
	breakers breaker.Caller
	ask      func(context.Context) (int, error)
	last     int
}

func (q *Quotes) Get(ctx context.Context) (int, error) {
	price, err := breaker.Call(ctx, q.breakers, "pricing", q.ask)
	switch {
	case errors.Is(err, breaker.ErrOpen):
		return q.last, nil
	case err != nil:
		return 0, err
	}
	q.last = price
	return price, nil
}

// While the breaker is open, the code under test answers without a call. Later its calls close the breaker.
func TestExample_FallbackWhileOpen(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t)
	calls := 0
	ask := func(context.Context) (int, error) { calls++; return 120, nil }
	quotes := &Quotes{breakers: f.Fleet, ask: ask, last: 99}

	f.Trip("pricing")
	if price, err := quotes.Get(t.Context()); err != nil || price != 99 {
		t.Errorf("%d, %v while the breaker is open, want the last known price", price, err)
	}
	if calls != 0 {
		t.Errorf("%d calls while the breaker is open", calls)
	}

	f.HalfOpen("pricing")
	for range 3 { // probes: Policy.HalfOpenMaxCalls
		_, _ = quotes.Get(t.Context())
	}
	f.MustBeClosed("pricing")
}

// The code under test opens the breaker by its own failures. The test moves the clock to the millisecond.
func TestExample_ProbesAfterAdvance(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t, fleet.Options{
		Policy: breaker.Policy{FailureThreshold: 3, Timeout: 30 * time.Second, HalfOpenMaxCalls: 2},
	})
	err := errors.New("the agent is down")
	quotes := &Quotes{breakers: f, ask: func(context.Context) (int, error) { return 120, err }}

	for range 3 {
		_, _ = quotes.Get(t.Context())
	}
	f.MustBeOpen("pricing")

	f.Advance(29999 * time.Millisecond)
	f.MustBeOpen("pricing")
	f.Advance(time.Millisecond)
	f.MustBeHalfOpen("pricing")

	err = nil // the agent has recovered
	for range 2 {
		_, _ = quotes.Get(t.Context())
	}
	f.MustBeClosed("pricing")
}

// Two replicas of the code under test have one breaker.
func TestExample_TwoReplicas(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{FailureThreshold: 2}})
	one := &Quotes{breakers: f, ask: func(context.Context) (int, error) { return 0, errors.New("the agent is down") }}
	calls := 0
	other := &Quotes{breakers: f.Replica(), ask: func(context.Context) (int, error) { calls++; return 120, nil }}

	for range 2 {
		_, _ = one.Get(t.Context())
	}
	if _, err := other.Get(t.Context()); err != nil || calls != 0 {
		t.Errorf("%v, %d calls: the other replica does not know that the breaker is open", err, calls)
	}
}

// statusError is an answer of an agent that is no success.
type statusError int

func (e statusError) Error() string { return fmt.Sprint("status ", int(e)) }

// classify is code under test: what a client did wrong is no fault of the agent.
func classify(ctx context.Context, c breaker.CallInfo) breaker.Outcome {
	if status, ok := errors.AsType[statusError](c.Err); ok && status < 500 {
		return breaker.Outcome{Kind: breaker.Success}
	}
	return breaker.Classify(ctx, c.Err)
}

// A Classify is tested by what it makes of calls.
func TestExample_Classify(t *testing.T) {
	t.Parallel()
	status := http.StatusNotFound
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer agent.Close()
	call := func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, agent.URL, http.NoBody)
		if err != nil {
			return err
		}
		answer, err := agent.Client().Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		return statusError(answer.StatusCode)
	}
	f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{FailureThreshold: 3}, Classify: classify})

	for range 5 {
		_ = f.Do(t.Context(), "catalogue", call)
	}
	f.MustBeClosed("catalogue")

	status = http.StatusInternalServerError
	for range 3 {
		_ = f.Do(t.Context(), "catalogue", call)
	}
	f.MustBeOpen("catalogue")
}

// deliver is code under test: it calls the agent "mailer" until a call succeeds.
func deliver(ctx context.Context, f *fleet.Fleet, send func(context.Context) error) error {
	for {
		if err := f.Wait(ctx, "mailer"); err != nil {
			return err
		}
		if err := f.Do(ctx, "mailer", send); err == nil {
			return nil
		}
	}
}

// A loop that waits goes on once Advance has made the breaker half-open.
func TestExample_WaitWithAdvance(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t)
	f.Trip("mailer")
	var sent atomic.Int32
	done := make(chan error)
	go func() {
		done <- deliver(t.Context(), f.Fleet, func(context.Context) error { sent.Add(1); return nil })
	}()

	if n := sent.Load(); n != 0 {
		t.Errorf("%d calls while the breaker is open", n)
	}
	f.HalfOpen("mailer")
	if err := <-done; err != nil || sent.Load() != 1 {
		t.Errorf("%v after %d calls", err, sent.Load())
	}
}

// In a bubble the fleet's clock is the bubble's, and the loop waits as it does in production, in no time.
func TestExample_WaitInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{Timeout: time.Hour}})
		f.Trip("mailer")
		began := time.Now()
		if err := deliver(t.Context(), f.Fleet, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < time.Hour || took > time.Hour+5*time.Second {
			t.Errorf("it waited %v", took)
		}
	})
}
