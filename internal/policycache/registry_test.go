package policycache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// layer is the registry's layer for agent a.
type layer struct {
	now atomic.Pointer[policy.Override]
}

func (l *layer) of(agent string) *policy.Override {
	if agent != "a" {
		return nil
	}
	return l.now.Load()
}

// over parses an override.
func over(text string) *policy.Override {
	o, err := policy.Parse([]byte(text))
	if err != nil {
		panic(err)
	}
	return &o
}

func layered(s *source, l *layer) *policycache.Cache {
	def := breaker.DefaultPolicy()
	def.WindowSize = time.Minute
	return policycache.New(policycache.Options{
		Default: def, Origins: map[string]string{"window_size_seconds": "environment"}, Source: s, Logger: discard(), Registry: l.of,
	})
}

func TestRegistry_IsALayerBetweenDefaultAndOverride(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{"a": `{"failure_threshold": 9}`}}, &layer{}
	l.now.Store(over(`{"failure_threshold":2,"timeout_seconds":30,"window_size_seconds":3600}`))
	b := layered(s, l)
	want := map[string]string{
		"failure_threshold": policycache.OverrideOrigin, "timeout_seconds": registry.RegistryOrigin,
		"window_size_seconds": registry.RegistryOrigin, "mode": policy.DefaultOrigin,
	}
	for range 2 { // by Look, and in use
		p, origins, err := b.Describe(t.Context(), "a")
		if err != nil || p.FailureThreshold != 9 || p.Timeout != 30*time.Second || p.WindowSize != time.Hour {
			t.Errorf("got %+v, %v", p, err)
		}
		for field, origin := range want {
			if origins[field] != origin {
				t.Errorf("%s from %q, want %q", field, origins[field], origin)
			}
		}
		if b.Policy(t.Context(), "a") != p || b.Look(t.Context(), "a") != p {
			t.Error("Policy, Look and Describe differ")
		}
	}
	if p, origins, _ := b.Describe(t.Context(), "b"); p.FailureThreshold != 5 || origins["window_size_seconds"] != "environment" {
		t.Errorf("an agent that the registry does not know: %+v %v", p, origins)
	}
}

func TestRegistry_DisabledCannotBeEnabledByAnOverride(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{"a": `{"enabled": true}`}}, &layer{}
	l.now.Store(over(`{"enabled":false}`))
	p, origins, err := layered(s, l).Describe(t.Context(), "a")
	if err != nil || !p.Disabled || origins["enabled"] != registry.RegistryOrigin {
		t.Errorf("got %v from %q, %v", !p.Disabled, origins["enabled"], err)
	}
}

func TestRebase_DoesNotReadTheSource(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{"a": `{"failure_threshold": 9}`}}, &layer{}
	b := layered(s, l)
	_ = b.Policy(t.Context(), "a")
	s.err = errors.New("down")
	l.now.Store(over(`{"enabled":false,"failure_threshold":2}`))
	if b.Policy(t.Context(), "a").Disabled {
		t.Error("counted before Rebase")
	}
	b.Rebase()
	if p := b.Policy(t.Context(), "a"); !p.Disabled || p.FailureThreshold != 9 {
		t.Errorf("got %+v", p)
	}
	l.now.Store(nil)
	b.Rebase()
	if p := b.Policy(t.Context(), "a"); p.Disabled || p.FailureThreshold != 9 {
		t.Errorf("got %+v", p)
	}
	if s.reads != 1 {
		t.Errorf("%d reads", s.reads)
	}
}

func TestRefresh_UsesTheRegistrysNewLayer(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{}}, &layer{}
	b := layered(s, l)
	_ = b.Policy(t.Context(), "a")
	l.now.Store(over(`{"failure_threshold":2}`))
	b.Refresh(t.Context(), "a") // the text is the same
	if got := b.Policy(t.Context(), "a").FailureThreshold; got != 2 {
		t.Errorf("threshold %d", got)
	}
}

func TestRegistry_CountsWhileTheSourceWasNeverUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, l := &source{of: map[string]string{}, err: errors.New("down")}, &layer{}
		l.now.Store(over(`{"failure_threshold":2}`))
		b := layered(s, l)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if got := b.Policy(ctx, "a").FailureThreshold; got != 2 {
			t.Errorf("threshold %d", got)
		}
		go b.Run(ctx)
		l.now.Store(over(`{"failure_threshold":3}`)) // nobody calls Rebase
		<-time.After(time.Second)
		if got := b.Policy(ctx, "a").FailureThreshold; got != 3 {
			t.Errorf("threshold %d a second later", got)
		}
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		s.set(`{"failure_threshold": 4}`)
		<-time.After(time.Second)
		if got := b.Policy(ctx, "a").FailureThreshold; got != 4 {
			t.Errorf("threshold %d when the source is back", got)
		}
	})
}

func TestOverride_ThatDoesNotFitTheRegistryKeepsTheLastGoodPolicy(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{"a": `{"timeout_seconds": 1800}`}}, &layer{}
	b := layered(s, l)
	_ = b.Policy(t.Context(), "a")
	l.now.Store(over(`{"timeout_max_seconds":600,"failure_threshold":2}`))
	b.Rebase()
	p, _, err := b.Describe(t.Context(), "a")
	if bad, is := errors.AsType[*breaker.PolicyError](err); !is || bad.Field != "timeout_seconds" {
		t.Errorf("got %v", err)
	}
	if p.Timeout != 30*time.Minute || p.TimeoutMax != time.Hour || p.FailureThreshold != 5 {
		t.Errorf("got %+v, want the last good one", p)
	}
	l.now.Store(over(`{"timeout_max_seconds":600,"enabled":false}`))
	b.Rebase()
	if p, origins, err := b.Describe(t.Context(), "a"); !p.Disabled || p.Timeout != 30*time.Minute || err == nil || origins["enabled"] != registry.RegistryOrigin {
		t.Errorf("switched off: got %+v, %v, %v", p, origins, err)
	}
	l.now.Store(over(`{"timeout_max_seconds":600}`))
	b.Rebase()
	if p, origins, _ := b.Describe(t.Context(), "a"); p.Disabled || p.Timeout != 30*time.Minute || origins["enabled"] != policy.DefaultOrigin {
		t.Errorf("no longer switched off: got %+v, %v", p, origins)
	}
	l.now.Store(over(`{"timeout_max_seconds":7200}`))
	b.Rebase()
	if p, _, err := b.Describe(t.Context(), "a"); err != nil || p.Disabled || p.Timeout != 30*time.Minute || p.TimeoutMax != 2*time.Hour {
		t.Errorf("repaired: got %+v, %v", p, err)
	}
	if p, _, err := layered(s, l).Describe(t.Context(), "a"); err != nil || p.Timeout != 30*time.Minute {
		t.Errorf("a new replica: got %+v, %v", p, err)
	}
}

// [B21] What an operator disables stays so, also over a restart, until the operator enables it.
func TestOverride_EnabledCountsIfTheRestDoesNotFit(t *testing.T) {
	t.Parallel()
	const long, longOff = `{"timeout_seconds": 1800}`, `{"timeout_seconds": 1800, "enabled": false}`
	s, l := &source{of: map[string]string{"a": longOff}}, &layer{}
	l.now.Store(over(`{"timeout_max_seconds":600,"failure_threshold":2}`))
	want := func(b *policycache.Cache, when string, enabled bool, timeout time.Duration) {
		t.Helper()
		p, origins, err := b.Describe(t.Context(), "a")
		if err == nil || p.Disabled == enabled || p.Timeout != timeout || !enabled && origins["enabled"] != policycache.OverrideOrigin {
			t.Errorf("%s: enabled %v from %q, timeout %v, %v; want %v, %v", when, !p.Disabled, origins["enabled"], p.Timeout, err, enabled, timeout)
		}
	}
	b := layered(s, l)
	_ = b.Policy(t.Context(), "a")
	want(b, "a new replica", false, time.Minute)
	if p := b.Policy(t.Context(), "a"); p.FailureThreshold != 2 {
		t.Errorf("the registry's threshold is lost: %d", p.FailureThreshold)
	}
	s.set(long)
	b.Refresh(t.Context(), "a")
	want(b, "switched on again", true, time.Minute)
	l.now.Store(nil)
	b.Rebase()
	l.now.Store(over(`{"timeout_max_seconds":600}`))
	b.Rebase()
	want(b, "the last good policy", true, 30*time.Minute)
	s.set(longOff)
	b.Refresh(t.Context(), "a")
	want(b, "switched off over the last good policy", false, 30*time.Minute)
	s.set("{")
	b.Refresh(t.Context(), "a")
	want(b, "under garbage", false, 30*time.Minute)
	s.set(long)
	b.Refresh(t.Context(), "a")
	want(b, "and switched on", true, 30*time.Minute)
}

// A malformed override does not keep the registry's layer from changing.
func TestRegistry_CountsUnderABadOverride(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{"a": `{"failure_threshold": 9}`}}, &layer{}
	b := layered(s, l)
	_ = b.Policy(t.Context(), "a")
	s.set(`{`)
	b.Refresh(t.Context(), "a")
	l.now.Store(over(`{"timeout_seconds":30}`))
	b.Rebase()
	if p, _, err := b.Describe(t.Context(), "a"); err == nil || p.FailureThreshold != 9 || p.Timeout != 30*time.Second {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, _, err := layered(s, l).Describe(t.Context(), "a"); err == nil || p.FailureThreshold != 5 || p.Timeout != 30*time.Second {
		t.Errorf("a new replica: got %+v, %v", p, err)
	}
}

func TestCheck_IsOverTheRegistry(t *testing.T) {
	t.Parallel()
	l := &layer{}
	l.now.Store(over(`{"timeout_max_seconds":7200}`))
	b := layered(&source{of: map[string]string{}}, l)
	o := *over(`{"timeout_seconds":5400}`)
	if err := b.Check(t.Context(), "a", o); err != nil {
		t.Error(err)
	}
	if err := b.Check(t.Context(), "b", o); err == nil {
		t.Error("b has no such limit, but the override passed")
	}
}

// In whatever order they run, the last layer and the last text count.
func TestCache_RebaseAndRefreshDoNotUndoEachOther(t *testing.T) {
	t.Parallel()
	s, l := &source{of: map[string]string{}}, &layer{}
	b := layered(s, l)
	_ = b.Policy(t.Context(), "a")
	ctx, cancel := context.WithCancel(t.Context())
	var run, wg sync.WaitGroup
	run.Go(func() { b.Run(ctx) })
	for n := range 100 {
		wg.Go(func() {
			l.now.Store(over(fmt.Sprintf(`{"failure_threshold":%d}`, n+1)))
			b.Rebase()
		})
		wg.Go(func() {
			s.set(`{"timeout_seconds": 30}`)
			b.Refresh(ctx, "a")
			_ = b.Policy(ctx, "a")
			b.Evict("b")
			_ = b.Policy(ctx, "b")
		})
	}
	wg.Wait()
	b.Rebase()
	b.Refresh(ctx, "a")
	if p := b.Policy(ctx, "a"); p.FailureThreshold != l.now.Load().Value("failure_threshold") || p.Timeout != 30*time.Second {
		t.Errorf("got %d and %v, want %d and 30s", p.FailureThreshold, p.Timeout, l.now.Load().Value("failure_threshold"))
	}
	cancel()
	run.Wait()
}
