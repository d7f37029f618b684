package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// joinBound is how long a Join may take: it waits for Redis three seconds, and the machine may be busy.
const joinBound = 6 * time.Second

// tryJoin joins within joinBound; its log is the second result.
func tryJoin(t *testing.T, url string, o fleet.Options) (f *fleet.Fleet, log *testkit.Buffer, err error) {
	t.Helper()
	log = new(testkit.Buffer)
	o.Logger = slog.New(slog.NewJSONHandler(log, nil))
	begin := time.Now()
	f, err = fleet.Join(t.Context(), url, o)
	took := time.Since(begin)
	t.Logf("Join(%q): %v, after %v", url, err, took.Round(time.Millisecond))
	if took > joinBound {
		t.Errorf("it took %v", took)
	}
	return f, log, err
}

// leave closes a Fleet of a Redis that is away.
func leave(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = f.Close(ctx)
}

// A Redis that answers, and refuses, is an error that says what it answered and what to do.
func TestJoin_RedisThatRefusesIsAnError(t *testing.T) {
	t.Parallel()
	open, guarded := testkit.Start(t), testkit.Start(t, "--requirepass", "right")
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	for name, c := range map[string]struct{ url, answered, advice string }{
		"wrong password": {"redis://:wrong@" + guarded.Addr, "WRONGPASS", "password is wrong"},
		"no password":    {"redis://" + guarded.Addr, "NOAUTH", "a password is needed"},
		"bad database":   {"redis://" + open.Addr + "/4711", "DB index is out of range", "no such database"},
		"no cluster":     {"redis+cluster://" + open.Addr, "cluster support disabled", "write redis://"},
		"no sentinel":    {"redis://" + open.Addr + "/mymaster", "unknown command", "no Sentinel"},
		"not Redis":      {"redis://" + web.Listener.Addr().String(), "HTTP", "does not speak Redis' protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, err := tryJoin(t, c.url, fleet.Options{RequireStore: true})
			if err == nil {
				leave(t, f)
				t.Fatal("no error")
			}
			if _, is := errors.AsType[*redisstore.SettingsError](err); !is {
				t.Errorf("no SettingsError: %v", err)
			}
			for _, want := range []string{c.answered, c.advice} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err)
				}
			}
			if strings.Contains(err.Error(), ":wrong@") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

// away returns addresses at which no Redis answers.
func away(t *testing.T) map[string]string {
	t.Helper()
	paused := testkit.Start(t)
	paused.Pause()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"closed port": closed, "silent server": paused.Addr, "no such host": "redis.invalid:6379",
		"unreachable": "192.0.2.1:6379", // RFC 5737: nobody has it
	}
}

// A Redis that is away is no error: the member answers from its memory. Options.RequireStore makes it one.
func TestJoin_RedisThatIsAwayIsAnErrorIfRequired(t *testing.T) {
	t.Parallel()
	for name, addr := range away(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, log, err := tryJoin(t, "redis://"+addr, fleet.Options{Policy: breaker.Policy{FailureThreshold: 2}})
			if err != nil {
				t.Fatal(err)
			}
			defer leave(t, f)
			if !strings.Contains(log.String(), "Redis does not answer") {
				t.Errorf("it says nothing of that: %s", log)
			}
			for range 2 {
				if err := f.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
					t.Errorf("not called: %v", err)
				}
			}
			if err := f.Do(t.Context(), "a", succeed); !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("the breaker in its memory is open: %v", err)
			}
		})
		t.Run(name+", required", func(t *testing.T) {
			t.Parallel()
			f, _, err := tryJoin(t, "redis://"+addr, fleet.Options{RequireStore: true})
			if err == nil {
				leave(t, f)
				t.Fatal("no error")
			}
			if _, is := errors.AsType[*redisstore.SettingsError](err); is || !strings.Contains(err.Error(), addr) {
				t.Errorf("want an error that names %s: %v", addr, err)
			}
		})
	}
}

// Join waits no longer than its context, whose error it returns.
func TestJoin_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	f, err := fleet.Join(ctx, s.URL(), fleet.Options{Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", f, err)
	}
	if took := time.Since(begin); took > joinTimeoutOfOthers {
		t.Errorf("it took %v", took)
	}
}

// joinTimeoutOfOthers is how long Join waits if its context does not end.
const joinTimeoutOfOthers = 3 * time.Second

// After Close nothing of the Fleet is left, and its outcomes are in Redis. A call that comes too late is told so.
func TestFleet_CloseLeaves(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	o := fleet.Options{Policy: breaker.Policy{Consistency: breaker.Cached}, OnStateChange: func(breaker.Change) {}}
	f, log, err := tryJoin(t, s.URL(), o)
	if err != nil {
		t.Fatal(err, log)
	}
	for range 20 {
		if err := f.Do(t.Context(), "a", succeed); err != nil {
			t.Fatal(err)
		}
	}
	client := s.Client(t)
	replicas := func() int64 { return client.ZCard(t.Context(), "circuit_breaker:replicas").Val() }
	testkit.Eventually(t, "the heartbeat", 10*time.Second, func() error {
		if n := replicas(); n != 1 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	ended, cancel := context.WithCancel(t.Context())
	err = f.Close(ended)
	cancel()
	if again := f.Close(ended); err != nil || again != nil {
		t.Errorf("Close: %v, then %v", err, again)
	}
	if n := replicas(); n != 0 {
		t.Errorf("%d replicas are left", n)
	}
	other, _, err := tryJoin(t, s.URL(), fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer leave(t, other)
	if v, _, err := other.Inspect(t.Context(), "a"); err != nil || v.Successes != 20 {
		t.Errorf("%d successes in Redis, want 20: %v", v.Successes, err)
	}
}

// A call after Close is answered at once from this process's memory. That is no news of Redis for the log.
func TestFleet_CallAfterCloseEnds(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	for name, url := range map[string]string{"redis": s.URL(), "memory": ""} {
		for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+"/"+string(consistency), func(t *testing.T) {
				t.Parallel()
				f, log, err := tryJoin(t, url, fleet.Options{Policy: breaker.Policy{Consistency: consistency}})
				if err != nil {
					t.Fatal(err, log)
				}
				if err := f.Do(t.Context(), "a", succeed); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				before, shared := log.String(), url != ""
				afterClose(t, f, shared)
				if said := strings.TrimPrefix(log.String(), before); shared && said != "" {
					t.Errorf("it logs %s", said)
				}
			})
		}
	}
}

// afterClose makes each call of a Fleet that was closed. What only Redis can answer is an error of the store.
func afterClose(t *testing.T, f *fleet.Fleet, shared bool) {
	t.Helper()
	ctx := t.Context()
	answered := map[string]func() error{
		"Do":      func() error { return f.Do(ctx, "a", succeed) },
		"Do, new": func() error { return f.Do(ctx, "b", succeed) },
		"Acquire": func() error { _, err := f.Acquire(ctx, "a"); return err },
		"Record":  func() error { _, err := f.Record(ctx, "a", breaker.Outcome{Kind: breaker.Success}); return err },
		"State":   func() error { _, err := f.State(ctx, "a"); return err },
		"Close":   func() error { return f.Close(ctx) },
	}
	ofStore := map[string]func() error{
		"List":      func() error { _, err := f.List(ctx); return err },
		"Configure": func() error { return f.Configure(ctx, "a", breaker.Policy{FailureThreshold: 2}) },
		"Open":      func() error { return f.Open(ctx, "a", breaker.Hold{Reason: "test", Actor: "test"}) },
	}
	begin := time.Now()
	for method, call := range answered {
		if err := call(); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	for method, call := range ofStore {
		err := call()
		if _, is := errors.AsType[*breaker.StoreError](err); is != shared || !is && err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if err := f.Wait(ctx, "a"); !errors.Is(err, breaker.ErrManagerClosed) {
		t.Errorf("Wait: %v", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("all that took %v", took)
	}
}
