package httpapi

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const batchWorkers = 64 // of one batch

type batchBody struct {
	Operations []batchOp `json:"operations" maxItems:"256" nullable:"false"`
}

// batchOp is one data verb; which fields it takes depends on op, as in the verb's own body.
type batchOp struct {
	Op             string   `json:"op"                            enum:"acquire,report,renew"`
	Agent          *string  `json:"agent"                         nullable:"false"`
	Parent         string   `json:"parent,omitempty"              maxLength:"256"`
	ParentAgent    string   `json:"parent_agent,omitempty"        maxLength:"128"`
	Permit         string   `json:"permit,omitempty"              maxLength:"256"`
	Outcome        *string  `json:"outcome,omitempty"             enum:"success,failure,ignored"`
	DurationMs     *float64 `json:"duration_ms,omitempty"         minimum:"0"`
	Error          string   `json:"error,omitempty"`
	RetryAfter     *float64 `json:"retry_after_seconds,omitempty" minimum:"0"`
	Reporter       string   `json:"reporter,omitempty"`
	IdempotencyKey string   `json:"idempotency_key,omitempty"     doc:"As the header of report."`
}

type batchReply struct {
	Results []batchResult `json:"results" doc:"In the order of the operations." nullable:"false"`
}

// batchResult is what the verb alone would have answered, with its status: its reply, or its problem, which has one.
type batchResult struct{ body any }

// MarshalJSONTo implements json.MarshalerTo.
func (r batchResult) MarshalJSONTo(enc *jsontext.Encoder) error {
	return jsonv2.MarshalEncode(enc, r.body)
}

// Schema implements huma.SchemaProvider.
func (batchResult) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"status"}, AdditionalProperties: true,
		Properties:  map[string]*huma.Schema{"status": {Type: huma.TypeInteger}},
		Description: "The status and the fields of the verb's own answer, or of its problem.",
	}
}

// The replies of the verbs, with their status.
type (
	acquireResult struct {
		Status int `json:"status"`
		acquireReply
	}
	reportResult struct {
		Status int `json:"status"`
		reportReply
	}
	renewResult struct {
		Status int `json:"status"`
		renewReply
	}
)

func (a *api) batchRoute() {
	route.Serve(a.API, route.Operation{
		Route: "POST /v1/batch", ID: "batch", Role: access.Report, Tag: "calls",
		Summary: "Several acquires, reports and renewals at once; those of one agent run in their order",
		Example: `{"operations": [{"op": "acquire", "agent": "FailingAgent"}, ` +
			`{"op": "report", "agent": "Other", "outcome": "success"}]}`,
	}, func(r *route.Request, in batchBody) (batchReply, error) {
		return batchReply{a.batch(r, in.Operations)}, nil
	})
}

// batch runs the operations of different agents concurrently, those of one agent in their order. Each worker starts the
// next before its first agent. So operations that wait for the store wait together, and operations that do not wait are
// done before another goroutine runs.
func (a *api) batch(r *route.Request, ops []batchOp) []batchResult {
	results := make([]batchResult, len(ops))
	first, next := byAgent(ops)
	var wg sync.WaitGroup
	var taken, workers atomic.Int32
	var work func()
	work = func() {
		last := workers.Add(1) >= batchWorkers
		for n := int(taken.Add(1)); n <= len(first); n = int(taken.Add(1)) {
			if !last && n < len(first) {
				last = true
				wg.Go(work)
			}
			for i := first[n-1]; i >= 0; i = next[i] {
				results[i].body = a.batchOne(r, &ops[i])
			}
		}
	}
	work()
	wg.Wait()
	return results
}

// byAgent lists the first operation of each agent, and for each operation the next of its agent; -1: none.
func byAgent(ops []batchOp) (first, next []int) {
	next = make([]int, len(ops))
	last := make(map[string]int, len(ops))
	for i := range ops {
		next[i] = -1
		if before, ok := last[*ops[i].Agent]; ok {
			next[before] = i
		} else {
			first = append(first, i)
		}
		last[*ops[i].Agent] = i
	}
	return first, next
}

// batchOne runs one operation. A panic is the result of this operation alone.
func (a *api) batchOne(r *route.Request, op *batchOp) (result any) {
	defer func() {
		if v := recover(); v != nil {
			guard.LogPanic(a.Logger, r.Request, v)
			result = problem.Unexpected()
		}
	}()
	result, err := a.batchVerb(r, op)
	if err == nil {
		return result
	}
	p, expected := problem.Of(err)
	if !expected {
		a.Logger.ErrorContext(r.Context(), "operation of a batch failed", "event", "http.failed", "op", op.Op, "error", err)
	}
	return p
}

func (a *api) batchVerb(r *route.Request, op *batchOp) (any, error) {
	ctx := r.Context()
	if !breaker.ValidName(*op.Agent) {
		return nil, breaker.ErrBadName
	}
	if err := r.Who.CheckAgent(*op.Agent); err != nil {
		return nil, err
	}
	report := reportBody{
		Permit: op.Permit, DurationMs: op.DurationMs, Error: op.Error, RetryAfter: op.RetryAfter, Reporter: op.Reporter,
	}
	if op.Outcome != nil {
		report.Outcome = *op.Outcome
	}
	switch {
	case op.Op != "report" && (report != reportBody{Permit: op.Permit} || op.IdempotencyKey != ""):
		return nil, problem.BadValue("outcome, duration_ms, error, retry_after_seconds, reporter, idempotency_key", "",
			"none of them with "+op.Op)
	case op.Op != "acquire" && op.Parent != "":
		return nil, problem.BadValue("parent", op.Parent, "none with "+op.Op)
	case op.Op != "acquire" && op.ParentAgent != "":
		return nil, problem.BadValue("parent_agent", op.ParentAgent, "none with "+op.Op)
	case op.Op == "acquire" && op.Permit != "":
		return nil, problem.BadValue("permit", op.Permit, "none with acquire")
	case op.Op == "report" && op.Outcome == nil:
		return nil, problem.BadValue("outcome", "", "success, failure or ignored")
	}
	switch op.Op {
	case "acquire":
		if err := parentAgent("parent_agent", op.ParentAgent); err != nil {
			return nil, err
		}
		out, err := a.acquire(ctx, *op.Agent, op.ParentAgent)
		return &acquireResult{http.StatusOK, out}, err
	case "renew":
		out, err := a.renew(ctx, *op.Agent, op.Permit)
		return &renewResult{http.StatusOK, out}, err
	}
	if op.IdempotencyKey != "" {
		if err := checkIdempotencyKey("idempotency_key", op.IdempotencyKey); err != nil {
			return nil, err
		}
	}
	out, err := a.report(ctx, *op.Agent, report, op.IdempotencyKey)
	return &reportResult{http.StatusOK, out}, err
}
