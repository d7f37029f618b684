package breaker

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/breakerd/breakerd/internal/bounded"
)

// validation is the result of checking one Policy. It is immutable.
type validation struct {
	given  Policy
	filled Policy // given with its defaults
	err    error  // a *PolicyError; nil: valid
}

// validations caches the result for each distinct Policy. It is safe for concurrent use.
type validations struct {
	check    func(Policy) error         // nil: Policy.Validate
	last     atomic.Pointer[validation] // a shortcut, for most callers ask for one policy again and again
	mu       sync.Mutex
	byPolicy map[Policy]*validation
}

// maxValidations bounds the cache. When it is full it is emptied, and an invalid policy may be reported again.
const maxValidations = 4096

// of returns the validation of p. first: p was not in the cache.
func (v *validations) of(p Policy) (result *validation, first bool) {
	if last := v.last.Load(); last != nil && last.given == p {
		return last, false
	}
	p = withoutNaN(p)
	v.mu.Lock()
	defer v.mu.Unlock()
	result, known := v.byPolicy[p]
	if !known {
		if v.byPolicy == nil || len(v.byPolicy) >= maxValidations {
			v.byPolicy = map[Policy]*validation{}
		}
		check := v.check
		if check == nil {
			check = Policy.Validate
		}
		result = &validation{given: p, filled: p.WithDefaults(), err: check(p)}
		v.byPolicy[p] = result
	}
	v.last.Store(result)
	return result, !known
}

// withoutNaN returns p with -Inf in place of NaN: it is as invalid, and equal to itself.
func withoutNaN(p Policy) Policy {
	if same := p; same == p {
		return p
	}
	for _, k := range Knobs() {
		if f, is := k.Value(p).(float64); is && math.IsNaN(f) {
			k.field.set(&p, math.Inf(-1))
		}
	}
	return p
}

// policies turns what Options.PerAgent and Options.Look return into valid policies. It is safe for concurrent use.
type policies struct {
	static Policy // of an agent that had no valid policy yet; valid, with its defaults
	reject func(agent string, err error)

	validations validations
	mu          sync.Mutex // for changes of agents
	agents      *bounded.Map[agentPolicy]
}

// agentPolicy is what was last returned for one agent.
type agentPolicy struct {
	latest    *validation
	lastValid *validation // nil: none yet
}

func newPolicies(
	static Policy, maxAgents int, check func(Policy) error, reject func(agent string, err error),
) *policies {
	return &policies{
		static: static, reject: reject, validations: validations{check: check},
		agents: bounded.New(bounded.Options[agentPolicy]{
			Max: maxAgents, Class: func(_ string, a agentPolicy) bounded.Class { return a.class() },
		}),
	}
}

// class ranks an agent whose last valid policy would be lost above others.
func (a agentPolicy) class() bounded.Class {
	if a.latest.err != nil {
		return bounded.Failing
	}
	return bounded.Harmless
}

// use returns p with its defaults; if p is invalid, the agent's last valid policy, or the static one. The result must
// not be changed. use does not allocate if the agent has the same policy as the last time.
func (s *policies) use(agent string, p Policy) *Policy {
	a, known := s.agents.Load(agent)
	if known && a.latest.given == p {
		return s.effective(a)
	}
	v := s.validate(agent, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	a, _ = s.agents.Load(agent)
	a = a.next(v)
	s.agents.Store(agent, a)
	return s.effective(a)
}

// peek is use, but remembers nothing of the agent.
func (s *policies) peek(agent string, p Policy) *Policy {
	a, _ := s.agents.Load(agent)
	return s.effective(a.next(s.validate(agent, p)))
}

// lastValid is use where the policy is not known.
func (s *policies) lastValid(agent string) *Policy {
	a, _ := s.agents.Load(agent)
	return s.effective(a)
}

// validate checks p, and reports an invalid policy once.
func (s *policies) validate(agent string, p Policy) *validation {
	v, first := s.validations.of(p)
	if first && v.err != nil {
		s.reject(agent, v.err)
	}
	return v
}

func (s *policies) effective(a agentPolicy) *Policy {
	if a.lastValid == nil {
		return &s.static
	}
	return &a.lastValid.filled
}

// next returns a with v as the latest policy.
func (a agentPolicy) next(v *validation) agentPolicy {
	if a.latest = v; v.err == nil {
		a.lastValid = v
	}
	return a
}
