package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Agents lists the known agents by name, with those that are new on this replica. Without Redis they are those that
// this process has used within a day.
func (r *Replica) Agents(ctx context.Context) ([]string, error) {
	if r.Docs == nil {
		return slices.Sorted(slices.Values(r.Policies.InUse(usedLately))), nil
	}
	if err := r.index.flush(ctx); err != nil {
		return nil, err
	}
	return r.Docs.Agents(ctx)
}

// usedLately is within what time an agent counts as in use where no index remembers it.
const usedLately = 24 * time.Hour

// Known reports whether an agent is known: registered, or in Redis. One that this replica has just admitted a call to
// is known at once.
func (r *Replica) Known(ctx context.Context, agent string) (bool, error) {
	if _, ok := r.Registry.InFile(agent); ok {
		return true, nil
	}
	if err := r.index.flush(ctx); err != nil {
		return false, err
	}
	return r.Docs.Known(ctx, agent)
}

// Configure replaces an agent's override by the fields of p that are not zero; if there are none, it removes it. The
// error is a *breaker.PolicyError if the agent's policy would not be valid, or a *breaker.StoreError.
func (r *Replica) Configure(ctx context.Context, agent string, p breaker.Policy, actor string) error {
	if !breaker.ValidName(agent) {
		return breaker.ErrBadName
	}
	o, err := policy.Of(p)
	if err == nil {
		err = r.Policies.Check(ctx, agent, o)
	}
	if err != nil {
		return fmt.Errorf("override of agent %q: %w", agent, err)
	}
	text := ""
	if o != (policy.Override{}) {
		data, err := o.MarshalJSON()
		if err != nil {
			return err
		}
		text = string(data)
	}
	if r.Docs == nil {
		r.own.put(agent, text)
	} else if err := r.Docs.PutOverride(ctx, agent, redisstore.AnyVersion, text, actor); err != nil {
		return err
	}
	r.Policies.Refresh(ctx, agent)
	r.Manager.Invalidate(agent)
	return nil
}

// Forget deletes everything of an agent from Redis. It sends the agent's outcomes first: sent later, they would bring
// it back. Without force a protected hold is breaker.ErrHoldProtected.
func (r *Replica) Forget(ctx context.Context, agent, actor string, force bool) error {
	if err := r.Manager.Flush(ctx, agent); err != nil {
		return err
	}
	if err := r.Store.Forget(ctx, agent, actor, force); err != nil {
		return err
	}
	r.Docs.OverridesChanged(ctx)
	r.evict(agent)
	return nil
}

// evict drops what this replica holds of an agent that was deleted.
func (r *Replica) evict(agent string) {
	r.Manager.Evict(agent)
	r.Policies.Evict(agent)
	r.index.drop(agent)
}

// inspections is how many breakers are inspected at once. Concurrent inspections share round trips.
const inspections = 32

// States is every known agent's state, advanced to now, for an open breaker may be half-open by now [B11]. Those that
// the index of breakers that are not closed lacks are closed: a sweep finds within 10 s what a hand has opened.
func (r *Replica) States(ctx context.Context) (map[string]breaker.State, error) {
	asked, err := r.Agents(ctx)
	if err != nil {
		return nil, err
	}
	states := make(map[string]breaker.State, len(asked))
	if r.Docs != nil {
		for _, agent := range asked {
			states[agent] = breaker.Closed
		}
		listed, err := r.Docs.NotClosed(ctx)
		if err != nil {
			return nil, err
		}
		asked = slices.Collect(maps.Keys(listed))
	}
	advanced, err := r.inspectAll(ctx, asked)
	maps.Copy(states, advanced)
	return states, err
}

func (r *Replica) inspectAll(ctx context.Context, agents []string) (map[string]breaker.State, error) {
	type found struct {
		agent string
		state breaker.State
		err   error
	}
	turn, all := make(chan struct{}, inspections), make(chan found, len(agents))
	for _, agent := range agents {
		turn <- struct{}{}
		go func() {
			v, _, err := r.Manager.Inspect(ctx, agent)
			<-turn
			all <- found{agent, v.State, err}
		}()
	}
	states := make(map[string]breaker.State, len(agents))
	var errs []error
	for range agents {
		f := <-all
		if errs = append(errs, f.err); f.err == nil {
			states[f.agent] = f.state
		}
	}
	return states, errors.Join(errs...)
}

// statsLogged bounds the agents whose figures the log has at the end.
const statsLogged = 100

// logStats logs each agent's figures.
func (r *Replica) logStats(ctx context.Context) {
	agents := r.Policies.InUse(usedLately)
	slices.Sort(agents)
	for _, a := range agents[:min(len(agents), statsLogged)] {
		v, p, err := r.Manager.Inspect(ctx, a)
		if err != nil {
			r.log.Warn("circuit breaker stats not read", "agent", a, "error", err)
			if ctx.Err() != nil {
				return // nor will the others be
			}
			continue
		}
		s := breaker.StatsOf(a, v, p)
		r.log.Info("circuit breaker stats", "event", "circuit_breaker.stats", "agent", a, "name", s.Name,
			"state", string(s.State), "failure_count", s.FailureCount, "failure_threshold", s.FailureThreshold,
			"cooldown_seconds", s.CooldownSeconds, "time_until_retry", s.TimeUntilRetry,
			"total_failures", s.TotalFailures, "total_successes", s.TotalSuccesses,
			"state_transitions", s.StateTransitions)
	}
	if left := len(agents) - statsLogged; left > 0 {
		r.log.Info("circuit breaker stats of further agents left out", "agents", left)
	}
}
