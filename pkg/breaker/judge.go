package breaker

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
)

// verdict is what was found of one Policy. It is never changed.
type verdict struct {
	given  Policy
	filled Policy // given, with its defaults
	err    error  // a *PolicyError; nil: valid
}

// verdicts remembers what was found of each distinct Policy, so that one is filled in and checked once. It is safe for
// concurrent use.
type verdicts struct {
	last atomic.Pointer[verdict] // the one that was asked for last
	mu   sync.Mutex
	of   map[Policy]*verdict
}

// maxVerdicts bounds the policies remembered; when there are more, all are forgotten, and a bad one is told of again.
const maxVerdicts = 4096

// on judges p. first: it was not known.
func (v *verdicts) on(p Policy) (found *verdict, first bool) {
	if found = v.last.Load(); found != nil && found.given == p {
		return found, false
	}
	p = equatable(p)
	v.mu.Lock()
	defer v.mu.Unlock()
	found, known := v.of[p]
	if !known {
		if v.of == nil || len(v.of) >= maxVerdicts {
			v.of = map[Policy]*verdict{}
		}
		found = &verdict{given: p, filled: p.WithDefaults(), err: p.Validate()}
		v.of[p] = found
	}
	v.last.Store(found)
	return found, !known
}

// equatable is p with -Inf in place of NaN, which is no less bad and equals itself.
func equatable(p Policy) Policy {
	if same := p; same == p {
		return p
	}
	for _, k := range Knobs() {
		if f, is := k.Value(p).(float64); is && math.IsNaN(f) {
			k.row.put(&p, math.Inf(-1))
		}
	}
	return p
}

// judge makes a valid policy of what Options.PerAgent and Options.Look answer.
type judge struct {
	static Policy // where there is no good one; filled in and valid
	most   int    // agents remembered; when there are more, all are forgotten
	reject func(agent string, err error)

	verdicts verdicts
	agents   *xsync.Map[string, standing]
}

// standing is what was last found for one agent.
type standing struct {
	last *verdict
	good *verdict // the last valid one; nil: none yet
}

func newJudge(static Policy, most int, reject func(agent string, err error)) *judge {
	return &judge{static: static, most: most, reject: reject, agents: xsync.NewMap[string, standing]()}
}

// of is the policy that the agent follows when p is what it is to follow: p with its defaults, or the agent's last good
// one, or the static one. Nobody changes what it gives. It does not allocate where p is what it was the last time.
func (j *judge) of(agent string, p Policy) *Policy {
	at, known := j.agents.Load(agent)
	if known && at.last.given == p {
		return at.policy(&j.static)
	}
	v := j.on(agent, p)
	if !known && j.agents.Size() >= j.most {
		j.agents.Clear()
	}
	at, _ = j.agents.Compute(agent, func(at standing, _ bool) (standing, xsync.ComputeOp) {
		return at.after(v), xsync.UpdateOp
	})
	return at.policy(&j.static)
}

// look is of for one who only looks: what is remembered of the agent stays as it is.
func (j *judge) look(agent string, p Policy) *Policy {
	at, _ := j.agents.Load(agent)
	return at.after(j.on(agent, p)).policy(&j.static)
}

// on judges p, and tells of a bad one once.
func (j *judge) on(agent string, p Policy) *verdict {
	v, first := j.verdicts.on(p)
	if first && v.err != nil {
		j.reject(agent, v.err)
	}
	return v
}

// after is the standing once v was found.
func (s standing) after(v *verdict) standing {
	if s.last = v; v.err == nil {
		s.good = v
	}
	return s
}

func (s standing) policy(static *Policy) *Policy {
	if s.good == nil {
		return static
	}
	return &s.good.filled
}
