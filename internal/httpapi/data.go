package httpapi

import (
	"context"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// acquireBody may be left out.
type acquireBody struct {
	Parent      string `json:"parent,omitempty" maxLength:"256" doc:"The permit of the call that makes this one, if any."`
	ParentAgent string `json:"parent_agent,omitempty" maxLength:"128" doc:"The agent that makes this call, if any: cascades show what follows from that."`
}

type acquireReply struct {
	Allowed      bool    `json:"allowed"`
	Permit       string  `json:"permit"          doc:"Owes one report, to any replica."`
	State        string  `json:"state"           enum:"CLOSED,HALF_OPEN"`
	Degraded     bool    `json:"degraded"        doc:"Given by this replica alone, because Redis is down."`
	LeaseSeconds float64 `json:"lease_seconds"   doc:"Of a probe: report or renew within it. 0: no lease."`
	Would        string  `json:"would,omitempty" doc:"Mode observe: why the call would have been refused."`
}

type reportBody struct {
	Permit     string   `json:"permit,omitempty"              maxLength:"256"                 doc:"What acquire gave; without it, the outcome counts for a closed breaker or the oldest probe."`
	Outcome    string   `json:"outcome"                       enum:"success,failure,ignored"`
	DurationMs *float64 `json:"duration_ms,omitempty"         minimum:"0"                     doc:"How long the call took."`
	Error      string   `json:"error,omitempty"               doc:"What went wrong, in a line."`
	RetryAfter *float64 `json:"retry_after_seconds,omitempty" minimum:"0"                     doc:"What the upstream asked for."`
	Reporter   string   `json:"reporter,omitempty"            doc:"Who saw it; default: this replica."`
}

type reportReply struct {
	State    *string `json:"state"              enum:"CLOSED,OPEN,HALF_OPEN" doc:"After it; null when Redis was not asked."`
	Counted  bool    `json:"counted"`
	Why      string  `json:"why,omitempty"      doc:"Not counted: late, foreign, ignored, duplicate, observed, disabled, lost, unknown, untracked."`
	Degraded bool    `json:"degraded,omitempty" doc:"Counted by this replica alone, because Redis is down."`
}

type renewBody struct {
	Permit *string `json:"permit" maxLength:"256" nullable:"false"`
}

type renewReply struct {
	LeaseSeconds float64 `json:"lease_seconds"`
}

const (
	breakerPath       = "/v1/circuit_breakers/{agent}"
	maxIdempotencyKey = 200 // bytes
)

func (a *api) dataRoutes() {
	route.Serve(a.API, route.Operation{
		Route: "POST " + breakerPath + "/acquire", ID: "acquire", Role: access.Report,
		Tag: "calls", Optional: true, Example: "{}",
		Summary: "Ask for leave to call an agent",
		Codes:   []problem.Code{problem.CircuitBreakerOpen, problem.TooManyAgents, problem.StoreUnavailable},
	}, func(r *route.Request, in acquireBody) (acquireReply, error) {
		if err := parentAgent("body.parent_agent", in.ParentAgent); err != nil {
			return acquireReply{}, err
		}
		return a.acquire(r.Context(), r.Agent, in.ParentAgent)
	})
	route.Serve(a.API, route.Operation{
		Route: "POST " + breakerPath + "/report", ID: "report", Role: access.Report,
		Tag: "calls", Summary: "Say how a call ended",
		Example: `{"permit": "v1.closed.0000000000000000.-.e40c292c", "outcome": "failure", "duration_ms": 12.5, ` +
			`"error": "connection refused"}`,
		Codes: []problem.Code{problem.InvalidPermit, problem.StoreUnavailable},
		Params: []*huma.Param{{
			Name: "Idempotency-Key", In: "header",
			Description: "Two reports with the same key, within 10 minutes, count once.",
			Schema:      &huma.Schema{Type: huma.TypeString, MaxLength: new(maxIdempotencyKey)},
		}},
	}, func(r *route.Request, in reportBody) (reportReply, error) {
		key := strings.Join(r.Header.Values("Idempotency-Key"), "\n")
		if _, given := r.Header["Idempotency-Key"]; given {
			if err := checkIdempotencyKey("header.Idempotency-Key", key); err != nil {
				return reportReply{}, err
			}
		}
		return a.report(r.Context(), r.Agent, in, key)
	})
	route.Serve(a.API, route.Operation{
		Route: "POST " + breakerPath + "/renew", ID: "renew", Role: access.Report,
		Tag: "calls", Summary: "Lengthen a probe's lease",
		Example: `{"permit": "v1.half_open.0123456789abcdef.0123456789abcdef.e40c292c"}`,
		Codes:   []problem.Code{problem.InvalidPermit, problem.LeaseLost, problem.StoreUnavailable},
	}, func(r *route.Request, in renewBody) (renewReply, error) {
		return a.renew(r.Context(), r.Agent, *in.Permit)
	})
	a.batchRoute()
	a.documentGate()
}

// acquire asks for a permit; parent is the agent that makes the call, "" if nobody said.
func (a *api) acquire(ctx context.Context, agent, parent string) (acquireReply, error) {
	a.Manager.NoteCall(parent, agent)
	p, err := a.Manager.Acquire(ctx, agent)
	if err != nil {
		return acquireReply{}, err
	}
	return acquireReply{
		Allowed: true, Permit: a.Permits.Sign(p.String()), State: p.State().Upper(), Degraded: p.Degraded(),
		LeaseSeconds: p.Lease().Seconds(), Would: string(p.WouldRefuse()),
	}, nil
}

func (a *api) report(ctx context.Context, agent string, in reportBody, key string) (out reportReply, err error) {
	o, err := outcome(in)
	if err != nil {
		return out, err
	}
	o.ReportID = key
	var r breaker.Report
	if in.Permit == "" {
		r, err = a.Manager.Record(ctx, agent, o)
	} else {
		var p breaker.Permit
		if p, err = a.resume(ctx, agent, in.Permit); err == nil {
			r, err = p.Report(ctx, o)
		}
	}
	if err != nil {
		return out, err
	}
	out = reportReply{Counted: r.Counted, Why: string(r.Why), Degraded: r.Degraded}
	if r.State != "" {
		out.State = view.TextOrNull(r.State.Upper())
	}
	return out, nil
}

// resume makes a permit of what acquire gave, on whichever replica.
func (a *api) resume(ctx context.Context, agent, signed string) (breaker.Permit, error) {
	text, err := a.Permits.Verify(ctx, signed)
	if err != nil {
		return breaker.Permit{}, err
	}
	return a.Manager.Resume(agent, text)
}

// maxReason bounds an operator's reason, and an error's text in a report, in bytes.
const maxReason = 500

// outcome checks the values of a report. An error's text is cut, not refused: the outcome must not be lost for it.
func outcome(in reportBody) (breaker.Outcome, error) {
	o := breaker.Outcome{
		Kind: breaker.OutcomeKind(in.Outcome), Class: text.Line(in.Error, maxReason), Reporter: in.Reporter,
	}
	if in.Reporter != "" && !breaker.ValidWord(in.Reporter) {
		return o, problem.BadValue("body.reporter", in.Reporter, "1 to 64 of A-Z a-z 0-9 . _ : @ -")
	}
	if ms := in.DurationMs; ms != nil {
		most := float64(breaker.MaxDuration.Milliseconds())
		if *ms > most {
			want := "milliseconds from 0 to " + route.FormatNumber(most)
			return o, problem.BadValue("body.duration_ms", route.FormatNumber(*ms), want)
		}
		o.Duration = time.Duration(*ms * float64(time.Millisecond))
	}
	var err error
	if in.RetryAfter != nil {
		o.RetryAfter, err = seconds("body.retry_after_seconds", *in.RetryAfter, 0)
	}
	return o, err
}

func (a *api) renew(ctx context.Context, agent, permit string) (renewReply, error) {
	p, err := a.resume(ctx, agent, permit)
	if err != nil {
		return renewReply{}, err
	}
	if strings.HasPrefix(p.String(), "v1.foreign.") { // another agent's permit has no lease here
		return renewReply{}, breaker.ErrLeaseLost
	}
	if err := p.Renew(ctx); err != nil {
		return renewReply{}, err
	}
	return renewReply{LeaseSeconds: p.Lease().Seconds()}, nil
}

func checkIdempotencyKey(location, key string) error {
	bad := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }
	if key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, bad) {
		return problem.BadValue(location, key, "1 to 200 printable ASCII characters, once")
	}
	return nil
}

// seconds converts a number of seconds to a duration, to 1 ms. least is the least that is allowed.
func seconds(location string, v float64, least time.Duration) (time.Duration, error) {
	ms := math.Round(v * 1000)
	if math.IsNaN(ms) || ms < float64(least.Milliseconds()) || ms > float64(breaker.MaxDuration.Milliseconds()) {
		return 0, problem.BadValue(location, route.FormatNumber(v), "seconds from "+route.FormatNumber(least.Seconds())+
			" to "+route.FormatNumber(breaker.MaxDuration.Seconds()))
	}
	return time.Duration(ms) * time.Millisecond, nil
}
