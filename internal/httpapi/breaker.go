package httpapi

import (
	"errors"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// breakerDetail is one agent's breaker with its policy.
type breakerDetail struct {
	view.BreakerEntry
	Policy        map[string]policyValue `json:"policy"              doc:"Each value by name, and where it came from."`
	PolicyProblem string                 `json:"policy_problem,omitempty" doc:"Why the override in Redis is not in force; the last good policy is."`
	Reporters     map[string]string      `json:"reporters,omitempty" doc:"With minimum_reporters: who failed, and when last."`
}

type policyValue struct {
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// inspect gives the breaker of an agent that is known. While Redis is down, it is what this replica remembers.
func (a *api) inspect(r *route.Request) (breaker.View, breaker.Policy, error) {
	err := a.known(r)
	if err != nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
		return breaker.View{}, breaker.Policy{}, err
	}
	v, p, inspectErr := a.Manager.Inspect(r.Context(), r.Agent)
	if inspectErr != nil {
		return v, p, inspectErr
	}
	if err != nil && (!v.Degraded || !v.Present) {
		return v, p, err
	}
	return v, p, nil
}

// known refuses an agent that is not known: a typo must not make a breaker.
func (a *api) known(r *route.Request) error {
	ok, err := a.Directory.Known(r.Context(), r.Agent)
	if err == nil && !ok {
		p := problem.New(problem.AgentUnknown,
			"no agent %s has a breaker, an override or a profile, or was seen within 30 days", r.Agent)
		p.Agent = r.Agent
		return p
	}
	return err
}

// detail is GET of one breaker.
func (a *api) detail(r *route.Request, _ route.None) (out breakerDetail, err error) {
	v, p, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	out = breakerDetail{BreakerEntry: view.Entry(r.Agent, v, p), Policy: map[string]policyValue{}}
	p, origins, err := a.Policies.Describe(r.Context(), r.Agent)
	if err != nil {
		out.PolicyProblem = text.Clip(err.Error(), route.MaxMessage)
	}
	if p.HalfOpenSuccessThreshold == 0 { // all probes of a round
		p.HalfOpenSuccessThreshold = p.HalfOpenMaxCalls
	}
	for _, f := range policy.Fields(p) {
		out.Policy[f.Name] = policyValue{Value: f.Value, Origin: origins[f.Name]}
	}
	for name, at := range v.Reporters {
		if out.Reporters == nil {
			out.Reporters = map[string]string{}
		}
		out.Reporters[name] = *view.Stamp(max(at, 1))
	}
	return out, nil
}

type eventsReply struct {
	Events []view.Event `json:"events" doc:"Newest first, at most 64." nullable:"false"`
}

func (a *api) events(r *route.Request, _ route.None) (eventsReply, error) {
	out := eventsReply{Events: []view.Event{}}
	if _, err := r.Params(); err != nil {
		return out, err
	}
	v, _, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	for _, e := range v.Log {
		out.Events = append(out.Events, view.EventOf(e))
	}
	return out, nil
}
