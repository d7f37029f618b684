package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
)

var errAgent = errors.New("the agent is down")

func fail(context.Context) error    { return errAgent }
func succeed(context.Context) error { return nil }

// member is a Fleet with what it says.
type member struct {
	*fleet.Fleet

	t       *testing.T
	log     *testkit.Buffer
	mu      sync.Mutex
	changes []string // "agent from>to"
}

func (m *member) hear(c breaker.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes = append(m.changes, fmt.Sprintf("%s %s>%s", c.Agent, c.From, c.To))
}

func (m *member) heard() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.changes, ", ")
}

func (m *member) eventually(what string, check func() error) {
	m.t.Helper()
	testkit.Eventually(m.t, what, 10*time.Second, check)
}

func join(t *testing.T, url string, o fleet.Options) *member {
	t.Helper()
	m := &member{t: t, log: new(testkit.Buffer)}
	o.FromEnv = true // with the time-out of TestMain
	o.Logger, o.OnStateChange = slog.New(slog.NewJSONHandler(m.log, nil)), m.hear
	var err error
	if m.Fleet, err = fleet.Join(t.Context(), url, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", m.ID(), m.log)
		}
	})
	return m
}

// onEachEngine runs a test on miniredis and on a real server, in both modes.
func onEachEngine(t *testing.T, test func(t *testing.T, url string, consistency breaker.Consistency)) {
	t.Helper()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run("miniredis/"+string(consistency), func(t *testing.T) {
			t.Parallel()
			m := miniredis.NewMiniRedis()
			m.ClockTTL(true)
			if err := m.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
			test(t, "redis://"+m.Addr()+"/0", consistency)
		})
		t.Run("redis/"+string(consistency), func(t *testing.T) {
			t.Parallel()
			test(t, testkit.Start(t).URL(), consistency)
		})
	}
}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})                                       // these tests break connections
	if err := os.Setenv("REDIS_TIMEOUT_MS", "10000"); err != nil { // a busy machine is no outage
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestJoin_WithoutURLIsOneProcessInMemory(t *testing.T) {
	t.Parallel()
	m := join(t, "", fleet.Options{Policy: breaker.Policy{FailureThreshold: 2}})
	if !strings.Contains(m.log.String(), "no Redis: breakers are in this process's memory") {
		t.Errorf("it does not say so: %s", m.log)
	}
	ctx := t.Context()
	for range 2 {
		_, _ = breaker.Call(ctx, m, "a", func(context.Context) (int, error) { return 0, errAgent })
	}
	n, err := breaker.Call(ctx, m, "a", func(context.Context) (int, error) { return 1, nil })
	if !errors.Is(err, breaker.ErrOpen) || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if states, err := m.List(ctx); err != nil || states["a"] != breaker.Open {
		t.Errorf("%v, %v", states, err)
	}
	m.eventually("the change to be heard", func() error {
		if got := m.heard(); got != "a closed>open" {
			return errors.New(got)
		}
		return nil
	})
	if err := m.Configure(ctx, "a", breaker.Policy{Disabled: true}); err != nil {
		t.Fatal(err)
	}
	if err := m.Do(ctx, "a", succeed); err != nil {
		t.Errorf("disabled: %v", err)
	}
	if err := m.Configure(ctx, "a", breaker.Policy{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Do(ctx, "a", succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("the override is removed: %v", err)
	}
}

// What one member does, the others see: state, list, override, change.
func TestFleet_MembersShareEverything(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, url string, consistency breaker.Consistency) {
		t.Helper()
		o := fleet.Options{Policy: breaker.Policy{Consistency: consistency, FailureThreshold: 3, Timeout: time.Hour}}
		a, b := join(t, url, o), join(t, url, o)
		ctx := t.Context()
		if err := b.Do(ctx, "a", succeed); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_ = a.Do(ctx, "a", fail)
		}
		for _, m := range []*member{a, b} {
			m.eventually("the breaker to be open", func() error {
				if err := m.Do(ctx, "a", succeed); !errors.Is(err, breaker.ErrOpen) {
					return fmt.Errorf("not refused: %w", err)
				}
				return nil
			})
			if state, err := m.State(ctx, "a"); err != nil || state != breaker.Open {
				t.Errorf("state %s, %v", state, err)
			}
			if states, err := m.List(ctx); err != nil || states["a"] != breaker.Open {
				t.Errorf("list %v, %v", states, err)
			}
			m.eventually("the change to be heard", func() error {
				if got := m.heard(); got != "a closed>open" {
					return errors.New(got)
				}
				return nil
			})
		}
		if err := a.Configure(ctx, "a", breaker.Policy{Disabled: true}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.eventually("the override", func() error { return b.Do(ctx, "a", succeed) })
		if took := time.Since(began); took > 2*time.Second { // promised within one, on a quiet machine
			t.Errorf("the override counted after %v", took)
		}
		if _, p, err := b.Inspect(ctx, "a"); err != nil || !p.Disabled {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// An operator's verbs on one member hold on the other, and each is heard once by both.
func TestFleet_OperatesForAll(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, url string, consistency breaker.Consistency) {
		t.Helper()
		o := fleet.Options{Policy: breaker.Policy{Consistency: consistency}}
		a, b := join(t, url, o), join(t, url, o)
		ctx := t.Context()
		if err := b.Do(ctx, "a", succeed); err != nil {
			t.Fatal(err)
		}
		if err := a.Open(ctx, "a", breaker.Hold{Reason: "leaks", Actor: "alice", Protected: true}); err != nil {
			t.Fatal(err)
		}
		b.eventually("the hold", func() error {
			open, refused := errors.AsType[*breaker.OpenError](b.Do(ctx, "a", succeed))
			if !refused || open.Reason != breaker.ReasonForcedOpen {
				return fmt.Errorf("refused %w", open)
			}
			return nil
		})
		if err := b.Release(ctx, "a", breaker.Release{Reason: "mended"}); !errors.Is(err, breaker.ErrHoldProtected) {
			t.Errorf("a protected hold: %v", err)
		}
		waited := make(chan error, 1)
		go func() { waited <- a.Wait(ctx, "a") }()
		if err := b.Release(ctx, "a", breaker.Release{Reason: "mended", Force: true}); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil { // half-open: a call may be tried
			t.Errorf("Wait: %v", err)
		}
		if err := a.Reset(ctx, "a", breaker.Reset{Reason: "fine"}); err != nil {
			t.Fatal(err)
		}
		b.eventually("the breaker to be closed", func() error { return b.Do(ctx, "a", succeed) })
		for _, m := range []*member{a, b} {
			m.eventually("the changes to be heard", func() error {
				if got := m.heard(); got != "a closed>open, a open>half_open, a half_open>closed" {
					return errors.New(got)
				}
				return nil
			})
		}
	})
}

// Each method of a Fleet that nobody made says what is wrong with it.
func TestFleet_ZeroValueIsUnset(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, f := range map[string]*fleet.Fleet{"nil": nil, "zero": {}} {
		for method, call := range map[string]func() error{
			"Do": func() error { return f.Do(ctx, "a", succeed) },
			"Call": func() error {
				_, err := breaker.Call(ctx, f, "a", func(context.Context) (int, error) { return 1, nil })
				return err
			},
			"Acquire":   func() error { _, err := f.Acquire(ctx, "a"); return err },
			"Agent":     func() error { _, err := f.Agent("a"); return err },
			"Record":    func() error { _, err := f.Record(ctx, "a", breaker.Outcome{Kind: breaker.Success}); return err },
			"Inspect":   func() error { _, _, err := f.Inspect(ctx, "a"); return err },
			"State":     func() error { _, err := f.State(ctx, "a"); return err },
			"List":      func() error { _, err := f.List(ctx); return err },
			"Configure": func() error { return f.Configure(ctx, "a", breaker.Policy{}) },
			"Wait":      func() error { return f.Wait(ctx, "a") },
			"Open":      func() error { return f.Open(ctx, "a", breaker.Hold{}) },
			"Reset":     func() error { return f.Reset(ctx, "a", breaker.Reset{}) },
			"Release":   func() error { return f.Release(ctx, "a", breaker.Release{}) },
			"Close":     func() error { return f.Close(ctx) },
		} {
			if err := call(); !errors.Is(err, breaker.ErrUnset) {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
		if f.ID() != "" || f.Manager() != nil {
			t.Errorf("%s: it has a name or a Manager", name)
		}
	}
}

func TestNew_NeedsAStore(t *testing.T) {
	t.Parallel()
	if _, err := fleet.New(nil, fleet.Options{}); !errors.Is(err, breaker.ErrUnset) {
		t.Errorf("%v", err)
	}
}
