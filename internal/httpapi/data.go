package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// acquireBody may be left out.
type acquireBody struct {
	Parent string `json:"parent,omitempty" maxLength:"256" doc:"The permit of the call that makes this one, if any."`
}

type acquireReply struct {
	Allowed      bool    `json:"allowed"`
	Permit       string  `json:"permit"          doc:"Owes one report, to any replica."`
	State        string  `json:"state"           enum:"CLOSED,HALF_OPEN"`
	Degraded     bool    `json:"degraded"        doc:"Given by this replica alone, because Redis is away."`
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
	Why      string  `json:"why,omitempty"      doc:"Not counted: late, foreign, ignored, duplicate, observed, disabled, lost, unknown."`
	Degraded bool    `json:"degraded,omitempty" doc:"Counted by this replica alone, because Redis is away."`
}

type renewBody struct {
	Permit *string `json:"permit" maxLength:"256" nullable:"false"`
}

type renewReply struct {
	LeaseSeconds float64 `json:"lease_seconds"`
}

const (
	breakerPath   = "/v1/circuit_breakers/{agent}"
	maxIdempotent = 200 // bytes of an Idempotency-Key
)

func (a *api) dataRoutes() {
	route.Serve(a.API, route.Operation{
		Method: http.MethodPost, Path: breakerPath + "/acquire", ID: "acquire", Tag: "calls", Body: route.OptionalBody,
		Summary: "Ask for leave to call an agent", Example: "{}", Codes: []problem.Code{problem.CircuitBreakerOpen, problem.StoreUnavailable},
	},
		func(r *route.Request, _ acquireBody) (route.Answer[acquireReply], error) {
			out, err := a.acquire(r.Context(), r.Agent)
			return route.Answer[acquireReply]{Body: out}, err
		})
	route.Serve(a.API, route.Operation{
		Method: http.MethodPost, Path: breakerPath + "/report", ID: "report", Tag: "calls", Body: route.RequiredBody,
		Example: `{"permit": "v1.closed.0000000000000000.-.e40c292c", "outcome": "failure", "duration_ms": 12.5, "error": "connection refused"}`,
		Summary: "Say how a call ended", Codes: []problem.Code{problem.BodyRequired, problem.InvalidPermit, problem.StoreUnavailable},
		Params: []*huma.Param{{
			Name: "Idempotency-Key", In: "header", Description: "Two reports with the same key, within 10 minutes, count once.",
			Schema: &huma.Schema{Type: huma.TypeString, MaxLength: new(maxIdempotent)},
		}},
	},
		func(r *route.Request, in reportBody) (route.Answer[reportReply], error) {
			id, err := idempotencyKey(r)
			if err != nil {
				return route.Answer[reportReply]{}, err
			}
			out, err := a.report(r.Context(), r.Agent, in, id)
			return route.Answer[reportReply]{Body: out}, err
		})
	route.Serve(a.API, route.Operation{
		Method: http.MethodPost, Path: breakerPath + "/renew", ID: "renew", Tag: "calls", Body: route.RequiredBody,
		Example: `{"permit": "v1.half_open.0123456789abcdef.0123456789abcdef.e40c292c"}`,
		Summary: "Lengthen a probe's lease", Codes: []problem.Code{problem.BodyRequired, problem.InvalidPermit, problem.LeaseLost, problem.StoreUnavailable},
	},
		func(r *route.Request, in renewBody) (route.Answer[renewReply], error) {
			out, err := a.renew(r.Context(), r.Agent, *in.Permit)
			return route.Answer[renewReply]{Body: out}, err
		})
	a.batchRoute()
	a.documentGate()
}

func (a *api) acquire(ctx context.Context, agent string) (acquireReply, error) {
	p, err := a.Manager.Acquire(ctx, agent)
	if err != nil {
		return acquireReply{}, err
	}
	return acquireReply{
		Allowed: true, Permit: p.String(), State: p.State().Upper(), Degraded: p.Degraded(),
		LeaseSeconds: p.Lease().Seconds(), Would: string(p.WouldRefuse()),
	}, nil
}

func (a *api) report(ctx context.Context, agent string, in reportBody, id string) (reportReply, error) {
	o, err := outcome(in)
	if err != nil {
		return reportReply{}, err
	}
	o.ReportID = id
	var r breaker.Report
	if in.Permit == "" {
		r, err = a.Manager.Record(ctx, agent, o)
	} else {
		var p breaker.Permit
		if p, err = a.Manager.Resume(agent, in.Permit); err == nil {
			r, err = p.Report(ctx, o)
		}
	}
	if err != nil {
		return reportReply{}, err
	}
	if r.Degraded && r.Why == machine.CodeLost { // nobody counted it, and on_store_error does not let this replica do so
		return reportReply{}, problem.Unavailable("Redis is away, and the outcome was not counted")
	}
	out := reportReply{Counted: r.Counted, Why: string(r.Why), Degraded: r.Degraded}
	if r.State != "" {
		out.State = view.TextOrNull(r.State.Upper())
	}
	return out, nil
}

// outcome checks a report's values.
func outcome(in reportBody) (breaker.Outcome, error) {
	o := breaker.Outcome{Kind: breaker.OutcomeKind(in.Outcome), Class: text.Line(in.Error, maxReason), Reporter: in.Reporter}
	if in.Reporter != "" && !breaker.ValidWord(in.Reporter) {
		return o, problem.BadValue("body.reporter", in.Reporter, "1 to 64 of A-Z a-z 0-9 . _ : @ -")
	}
	if ms := in.DurationMs; ms != nil {
		if *ms > float64(breaker.MaxDuration.Milliseconds()) {
			return o, problem.BadValue("body.duration_ms", route.FormatNumber(*ms), "milliseconds from 0 to "+
				strconv.FormatInt(breaker.MaxDuration.Milliseconds(), 10))
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
	p, err := a.Manager.Resume(agent, permit)
	if err != nil {
		return renewReply{}, err
	}
	if strings.HasPrefix(p.String(), "v1.foreign.") { // another agent's: it has no lease here
		return renewReply{}, breaker.ErrLeaseLost
	}
	if err := p.Renew(ctx); err != nil {
		return renewReply{}, err
	}
	return renewReply{LeaseSeconds: p.Lease().Seconds()}, nil
}

func idempotencyKey(r *route.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	return checkIdempotencyKey("header.Idempotency-Key", strings.Join(values, "\n"))
}

func checkIdempotencyKey(location, id string) (string, error) {
	bad := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }
	if id == "" || len(id) > maxIdempotent || strings.ContainsFunc(id, bad) {
		return "", problem.BadValue(location, id, "1 to 200 printable ASCII characters, once")
	}
	return id, nil
}
