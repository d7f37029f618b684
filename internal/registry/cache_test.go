package registry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// memoryProfiles are Profiles in memory. A read takes delay.
type memoryProfiles struct {
	mu    sync.Mutex
	of    map[string]string
	err   error
	delay time.Duration
	reads int
	asked [][]string // of ProfilesOf
}

func (d *memoryProfiles) Profile(ctx context.Context, agent string) (string, error) {
	d.mu.Lock()
	d.reads++
	text, err, delay := d.of[agent], d.err, d.delay
	d.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		err = ctx.Err()
	}
	return text, err
}

func (d *memoryProfiles) set(text string, err error, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of["a"], d.err, d.delay = text, err, delay
}

func (d *memoryProfiles) PutBoth(_ context.Context, agent string, profile, _ [2]string, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of[agent] = profile[1]
	return d.err
}

func (*memoryProfiles) Override(context.Context, string) (string, error) { return "", nil }

func (*memoryProfiles) Agents(context.Context) ([]string, error) { return nil, nil }

func (d *memoryProfiles) ProfilesOf(ctx context.Context, agents []string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, agents)
	out := make([]string, len(agents))
	for i, a := range agents {
		out[i] = d.of[a]
	}
	if d.delay > 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return out, d.err
}

func (*memoryProfiles) Overrides(context.Context, []string) ([]string, error) { return nil, nil }

func newProfiles(text string) *memoryProfiles {
	return &memoryProfiles{of: map[string]string{"a": text}}
}

func over(t *testing.T, o registry.Options) *registry.Registry {
	t.Helper()
	o.Default = breaker.DefaultPolicy()
	r, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func host(t *testing.T, r *registry.Registry, name string) string {
	t.Helper()
	a, err := r.Agent(t.Context(), name)
	if err != nil {
		return err.Error()
	}
	return a.URL.Host
}

const none = `agent "a": agent is not registered`

func TestAgent_CallersShareOneRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles(`{"url": "http://h"}`)
		d.delay = 100 * time.Millisecond
		r := over(t, registry.Options{Profiles: d})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if got := host(t, r, "a"); got != "h" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if d.reads != 1 {
			t.Errorf("%d reads", d.reads)
		}
	})
}

func TestAgent_AnswerIsFreshForASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles("")
		r := over(t, registry.Options{Profiles: d})
		if got := host(t, r, "a"); got != none {
			t.Error(got)
		}
		d.set(`{"url": "http://h"}`, nil, 0)
		<-time.After(999 * time.Millisecond)
		if got := host(t, r, "a"); got != none || d.reads != 1 {
			t.Errorf("%s after %d reads: that there is none is an answer too", got, d.reads)
		}
		<-time.After(time.Millisecond)
		if got := host(t, r, "a"); got != "h" || d.reads != 2 {
			t.Errorf("%s after %d reads", got, d.reads)
		}
	})
}

func TestAgent_NobodyWaitsTwiceForAFailingRedis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles(`{"url": "http://h"}`)
		r := over(t, registry.Options{Profiles: d})
		if got := host(t, r, "a"); got != "h" {
			t.Fatal(got)
		}
		d.set(`{"url": "http://i"}`, nil, time.Hour) // Redis hangs
		waits := make([]time.Duration, 3)
		for i := range waits {
			<-time.After(2 * time.Second)
			start := time.Now()
			if got := host(t, r, "a"); got != "h" {
				t.Error(got)
			}
			waits[i] = time.Since(start)
		}
		if waits[0] != 250*time.Millisecond || waits[1] != 0 || waits[2] != 0 {
			t.Errorf("waited %v", waits)
		}
		d.set(`{"url": "http://i"}`, nil, 0)
		<-time.After(2 * time.Second)
		_ = host(t, r, "a") // starts a read
		synctest.Wait()
		if got := host(t, r, "a"); got != "i" {
			t.Error(got)
		}
	})
}

func TestAgent_UnknownIsReadOnceASecondWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles("")
		d.err = errors.New("down")
		r := over(t, registry.Options{Profiles: d})
		for range 5 {
			if _, err := r.Agent(t.Context(), "a"); !errors.Is(err, breaker.ErrStoreUnavailable) || !errors.Is(err, d.err) {
				t.Errorf("got %v", err)
			}
		}
		if d.reads != 1 {
			t.Errorf("%d reads", d.reads)
		}
		d.set(`{"url": "http://h"}`, nil, 0)
		<-time.After(time.Second)
		if got := host(t, r, "a"); got != "h" {
			t.Error(got)
		}
	})
}

func TestAgent_StoreKnownToBeDownIsNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, down := newProfiles(`{"url": "http://h"}`), false
		r := over(t, registry.Options{Profiles: d, StoreDown: func() bool { return down }})
		if got := host(t, r, "a"); got != "h" {
			t.Error(got)
		}
		down = true
		<-time.After(time.Minute)
		if got := host(t, r, "a"); got != "h" {
			t.Error(got)
		}
		if _, err := r.Agent(t.Context(), "b"); !errors.Is(err, breaker.ErrStoreUnavailable) {
			t.Errorf("got %v", err)
		}
		if d.reads != 1 {
			t.Errorf("%d reads", d.reads)
		}
		down = false
		if got := host(t, r, "b"); got != `agent "b": agent is not registered` {
			t.Error(got)
		}
	})
}

func TestAgent_CallerWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles(`{"url": "http://h"}`)
		d.delay = 100 * time.Millisecond
		r := over(t, registry.Options{Profiles: d})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := r.Agent(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if got := host(t, r, "a"); got != "h" || d.reads != 1 { // the read outlived its caller
			t.Errorf("%s after %d reads", got, d.reads)
		}
	})
}

func TestAgent_ReadDoesNotUndoANewerPut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles(`{"url": "http://old"}`)
		d.delay = 100 * time.Millisecond
		r := over(t, registry.Options{Profiles: d})
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := host(t, r, "a"); got != "new" {
				t.Error(got)
			}
		})
		synctest.Wait() // the read has begun
		d.set(`{"url": "http://old"}`, nil, 0)
		if _, err := r.Put(t.Context(), parsed(t, r, "a", `{"url": "http://new"}`), "tester"); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if got := host(t, r, "a"); got != "new" {
			t.Error(got)
		}
	})
}

// Nobody knows what a Put that failed half-way has written.
func TestAgent_ReadsAgainAfterAPutOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles(`{"url": "http://old"}`)
		d.delay = 100 * time.Millisecond
		r := over(t, registry.Options{Profiles: d})
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := host(t, r, "a"); got != "new" {
				t.Error(got)
			}
		})
		synctest.Wait()
		lost := &breaker.StoreError{Verb: "configure", Agent: "a", Unknown: true, Err: errors.New("cut")}
		d.set(`{"url": "http://new"}`, lost, 0)
		if _, err := r.Put(t.Context(), parsed(t, r, "a", `{"url": "http://new"}`), "tester"); !errors.Is(err, lost) {
			t.Fatal(err)
		}
		d.set(`{"url": "http://new"}`, nil, 0)
		wg.Wait()
	})
}

func TestAgent_CacheIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newProfiles(`{"url": "http://h"}`)
		r := over(t, registry.Options{Profiles: d, MaxAgents: 3})
		_ = host(t, r, "a")
		for i := range 100 { // unknown agents evict each other, not a registered one
			_ = host(t, r, fmt.Sprint("unknown", i))
		}
		before := d.reads
		if got := host(t, r, "a"); got != "h" || d.reads != before {
			t.Errorf("%s after %d more reads", got, d.reads-before)
		}
		if n := registry.Cached(r); n != 3 {
			t.Errorf("%d kept", n)
		}
	})
}

func TestAgent_BadNameIsUnknownWithoutARead(t *testing.T) {
	t.Parallel()
	d := newProfiles("")
	r := over(t, registry.Options{Profiles: d})
	for _, name := range []string{"", "a b", "../x", "a\n"} {
		if _, err := r.Agent(t.Context(), name); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
		if err := r.Delete(t.Context(), name, "tester"); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if d.reads != 0 {
		t.Errorf("%d reads", d.reads)
	}
}
