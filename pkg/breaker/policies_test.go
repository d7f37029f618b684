package breaker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestNewManager_RefusesAnInvalidPolicy(t *testing.T) {
	t.Parallel()
	for field, all := range invalidPolicies() {
		for _, p := range all {
			_, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p})
			if bad, is := errors.AsType[*breaker.PolicyError](err); !is || bad.Field != field || !strings.Contains(err.Error(), "Options.Policy: "+field) {
				t.Errorf("%+v: got %v, want the name of %s", p, err, field)
			}
		}
	}
}

// Policies as callers write them who set only some fields.
func TestManager_PartialPolicyWorks(t *testing.T) {
	t.Parallel()
	for _, p := range []breaker.Policy{
		{FailureThreshold: 3, Timeout: time.Second},
		{FailureThreshold: 3},
		{FailureThreshold: 3, HalfOpenMaxCalls: 1},
		{FailureThreshold: 3, FailureRateThreshold: breaker.Off},
		{FailureThreshold: 3, Mode: breaker.Enforce, Timeout: time.Minute, TimeoutMultiplier: 2},
		{FailureThreshold: 3, Consistency: breaker.Strict, OnStoreError: breaker.OnStoreErrorDeny},
	} {
		m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_ = m.Do(t.Context(), "a", fail)
		}
		open, is := errors.AsType[*breaker.OpenError](m.Do(t.Context(), "a", succeed))
		if !is || open.RetryAfter() <= 0 || open.RetryAfter() > time.Minute {
			t.Errorf("%+v: after three failures %v", p, open)
		}
	}
}

// policyStore notes the policies that it gets.
type policyStore struct {
	breaker.Store

	mu       sync.Mutex
	policies []breaker.Policy
}

func (s *policyStore) note(p breaker.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies = append(s.policies, p)
}

func (s *policyStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	s.note(p)
	return s.Store.Apply(ctx, agent, p, op)
}

func (s *policyStore) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	s.note(p)
	return s.Store.Inspect(ctx, agent, p)
}

// rejections notes the invalid policies that an Observer is notified of.
type rejections struct {
	breaker.NopObserver

	mu  sync.Mutex
	all []string
}

func (r *rejections) PolicyRejected(agent string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprint(agent, " ", err))
}

// perAgent is a Manager whose PerAgent returns now, with its store, observer and log.
type perAgent struct {
	*breaker.Manager

	now      atomic.Pointer[breaker.Policy]
	store    *policyStore
	rejected *rejections
	log      bytes.Buffer
}

func newPerAgent(t *testing.T, static breaker.Policy) *perAgent {
	t.Helper()
	p := &perAgent{store: &policyStore{Store: breaker.NewMemory(nil, 0)}, rejected: &rejections{}}
	m, err := breaker.NewManager(breaker.Options{
		Store: p.store, Observer: p.rejected, Logger: slog.New(slog.NewTextHandler(&p.log, nil)), Policy: static,
		PerAgent: func(context.Context, string) breaker.Policy { return *p.now.Load() },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Manager = m
	return p
}

// use applies each kind of operation with a policy, and returns the policies that the store got.
func (p *perAgent) use(t *testing.T, agent string, policy breaker.Policy) []breaker.Policy {
	t.Helper()
	p.now.Store(&policy)
	_ = p.Do(t.Context(), agent, succeed)
	if _, err := p.Record(t.Context(), agent, breaker.Outcome{Kind: breaker.Success}); err != nil {
		t.Error(err)
	}
	if _, err := p.Force(t.Context(), agent, breaker.Force{Target: breaker.ResetClosed, Actor: "test"}); err != nil {
		t.Error(err)
	}
	if _, shown, err := p.Inspect(t.Context(), agent); err != nil || shown != p.store.policies[len(p.store.policies)-1] {
		t.Errorf("Inspect shows %+v, %v, not what the store got", shown, err)
	}
	got := slices.Compact(p.store.policies)
	p.store.policies = nil
	return got
}

func TestPerAgent_InvalidPolicyIsReplacedByTheLastValidOne(t *testing.T) {
	t.Parallel()
	static, good := breaker.Policy{FailureThreshold: 7}, breaker.Policy{FailureThreshold: 2, RampFloor: breaker.Off}
	for field, all := range invalidPolicies() {
		for _, bad := range all {
			p := newPerAgent(t, static)
			for _, step := range []struct {
				agent       string
				given, want breaker.Policy
			}{
				{"a", bad, static},
				{"a", good, good},
				{"a", bad, good},
				{"b", bad, static},
				{"a", breaker.Policy{}, breaker.Policy{}},
				{"a", bad, breaker.Policy{}},
				{"a", static, static},
			} {
				if got := p.use(t, step.agent, step.given); len(got) != 1 || got[0] != step.want.WithDefaults() {
					t.Errorf("%s, %+v: the store was given %+v, want %+v", field, step.given, got, step.want.WithDefaults())
				}
			}
			if len(p.rejected.all) != 1 || !strings.HasPrefix(p.rejected.all[0], "a "+field+": ") {
				t.Errorf("%s: observed %q, want one rejection", field, p.rejected.all)
			}
			if log := p.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "policy not taken") || !strings.Contains(log, field) {
				t.Errorf("%s: the log says %q, want one line", field, log)
			}
		}
	}
}

func TestPerAgent_EachInvalidPolicyIsReportedOnce(t *testing.T) {
	t.Parallel()
	p := newPerAgent(t, breaker.Policy{})
	for range 3 {
		for _, agent := range []string{"a", "b"} {
			for i := range 6 {
				p.use(t, agent, breaker.Policy{FailureThreshold: 1000 + i})
			}
			p.use(t, agent, breaker.Policy{FailureRateThreshold: math.NaN()})
			p.use(t, agent, breaker.Policy{FailureRateThreshold: math.NaN(), RampFloor: math.NaN()})
		}
	}
	if len(p.rejected.all) != 8 {
		t.Errorf("%d rejections: %q, want 8", len(p.rejected.all), p.rejected.all)
	}
}

// Every call has a new policy, and there are more agents than MaxAgents.
func TestPerAgent_ConcurrentPoliciesAreReportedOnce(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	rejected := &rejections{}
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Observer: rejected, MaxAgents: 10,
		PerAgent: func(context.Context, string) breaker.Policy {
			i := n.Add(1)
			return breaker.Policy{MinimumCalls: int(i), HalfOpenMaxCalls: -int(i % 2)}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 1000 {
				_ = m.Do(t.Context(), fmt.Sprint("agent", i*j%50), succeed)
			}
		})
	}
	wg.Wait()
	if got := int64(len(rejected.all)); got != n.Load()/2 {
		t.Errorf("%d rejections, want each of %d once", got, n.Load()/2)
	}
}
