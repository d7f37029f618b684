package replica

import (
	"context"
	"encoding/json"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

var _ breaker.QuietObserver = (*quarantine)(nil)

// maxClass bounds a caller's error class in a log line or a sample, in bytes.
const maxClass = 200

// quarantine keeps samples of failed and refused calls in Redis: at most one a second, agent and kind, from this
// replica.
type quarantine struct {
	breaker.NopObserver

	docs    *redisdocs.Docs
	replica string
	samples chan sample
	pace    pace
}

// sample is one item of GET /v1/admin/quarantine.
type sample struct {
	At       string  `json:"at"`
	AgentID  string  `json:"agent_id"`
	Kind     string  `json:"kind"` // failure or refused
	State    string  `json:"state,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Error    string  `json:"error,omitempty"`
	Seconds  float64 `json:"duration_seconds,omitempty"` // not of Do in cached mode, which measures only what decides
	Replica  string  `json:"replica"`
	Degraded bool    `json:"degraded,omitempty"`
}

func newQuarantine(docs *redisdocs.Docs, replica string) *quarantine {
	return &quarantine{docs: docs, replica: replica, samples: make(chan sample, 256), pace: newPace()}
}

// add drops a sample that comes within a second of the last, or finds the channel full. It never waits.
func (q *quarantine) add(s sample) {
	if !q.pace.due(s.AgentID + " " + s.Kind) {
		return
	}
	s.At, s.Replica = time.Now().UTC().Format(time.RFC3339), q.replica
	select {
	case q.samples <- s:
	default:
	}
}

// Quiet implements [breaker.QuietObserver]: no success is a sample.
func (*quarantine) Quiet() bool { return true }

// Refused implements [breaker.Observer].
func (q *quarantine) Refused(agent string, e *breaker.OpenError) {
	q.add(sample{
		AgentID: agent, Kind: "refused", State: e.State.Upper(), Reason: string(e.Reason), Degraded: e.Degraded,
	})
}

// Settled implements [breaker.Observer]. The quarantine takes no failure of a disabled breaker, which records nothing
// [B21], nor one that belongs to another agent.
func (q *quarantine) Settled(agent string, out breaker.Outcome, r breaker.Report) {
	if out.Kind == breaker.Failure && r.Why != machine.CodeDisabled && r.Why != machine.CodeForeign {
		q.add(sample{
			AgentID: agent, Kind: "failure", State: r.State.Upper(), Error: text.Line(out.Class, maxClass),
			Seconds: out.Duration.Seconds(), Degraded: r.Degraded,
		})
	}
}

// run writes samples until ctx ends. A sample that the store does not take is lost.
func (q *quarantine) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-q.samples:
			if item, err := json.Marshal(s); err == nil {
				_ = q.docs.PushQuarantine(ctx, s.AgentID, string(item)) // the store reports its own health
			}
		}
	}
}
