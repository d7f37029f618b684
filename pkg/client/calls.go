package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

const ofBreaker = "/v1/circuit_breakers/"

// Acquire asks for leave to call an agent [B3]. A refusal is a [breaker.ErrOpen]. The permit owes one report, to any
// replica; a probe has to be renewed within LeaseSeconds. See [Client.Do], which does all of that.
func (c *Client) Acquire(ctx context.Context, agent string, in AcquireRequest) (out AcquireReply, err error) {
	_, err = c.do(ctx, post(in, ofBreaker, agent, "/acquire"), &out)
	return out, err
}

// Report says how a call ended [B4]. Two reports with the same key count once within ten minutes: with one, a report
// that got no answer is sent again, and may be answered that it is a duplicate of itself. The key "" is none.
func (c *Client) Report(ctx context.Context, agent string, in ReportRequest, key string) (out ReportReply, err error) {
	r := post(in, ofBreaker, agent, "/report").with("Idempotency-Key", key)
	r.repeatable = key != ""
	_, err = c.do(ctx, r, &out)
	return out, err
}

// Renew lengthens the lease of a probe [B12]. The error is [breaker.ErrLeaseLost] if there is none any more.
func (c *Client) Renew(ctx context.Context, agent string, in RenewRequest) (out RenewReply, err error) {
	r := post(in, ofBreaker, agent, "/renew")
	r.repeatable = true
	_, err = c.do(ctx, r, &out)
	return out, err
}

// The verbs of a BatchOp.
const (
	opAcquire = "acquire"
	opReport  = "report"
	opRenew   = "renew"
)

// BatchResult is what one operation of a batch alone would have been answered: one of its fields is set.
type BatchResult struct {
	Acquired *AcquireReply
	Reported *ReportReply
	Renewed  *RenewReply
	Err      *Error
}

// Batch does several acquires, reports and renewals at once, at most 256; those of one agent run in their order. The
// results are in the order of ops. The error is of the batch as a whole. It is sent again without an answer only if all
// of ops may be: renewals, and reports with a key.
func (c *Client) Batch(ctx context.Context, ops []BatchOp) ([]BatchResult, error) {
	r := post(map[string]any{"operations": ops}, "/v1/batch")
	r.repeatable = true
	for _, op := range ops {
		r.repeatable = r.repeatable && (op.Op == opRenew || op.Op == opReport && op.IdempotencyKey != "")
	}
	var out struct{ Results []json.RawMessage }
	if _, err := c.do(ctx, r, &out); err != nil {
		return nil, err
	}
	if len(out.Results) != len(ops) {
		return nil, fmt.Errorf("%s: %d results for %d operations", r, len(out.Results), len(ops))
	}
	results := make([]BatchResult, len(ops))
	for i, text := range out.Results {
		if err := results[i].read(ops[i], text); err != nil {
			return nil, fmt.Errorf("%s: result %d cannot be read: %w", r, i, err)
		}
	}
	return results, nil
}

func (b *BatchResult) read(op BatchOp, text json.RawMessage) error {
	var head struct{ Status int }
	if err := decode(text, &head); err != nil {
		return err
	}
	if head.Status >= http.StatusMultipleChoices {
		var p problem
		err := decode(text, &p)
		b.Err = p.asError(op.Op+" of "+op.Agent+" in a batch", head.Status)
		return err
	}
	switch op.Op {
	case opAcquire:
		return decode(text, &b.Acquired)
	case opReport:
		return decode(text, &b.Reported)
	default:
		return decode(text, &b.Renewed)
	}
}

// GateRequest says how a gate answers.
type GateRequest struct {
	Parent     string // the agent that makes the call; "": nobody says
	DenyStatus int    // of a refusal: 401, 403, 429 or 503; 0: as acquire has it
}

// of asks by POST, for the gate takes every method: net/http sends a GET again when its connection breaks.
func (g GateRequest) of(path string) call {
	r := call{method: http.MethodPost, path: path}.with("X-Circuit-Breaker-Agent", g.Parent).with("X-Breaker-Gate", "1")
	if g.DenyStatus != 0 {
		r = r.with("X-Breaker-Deny-Status", strconv.Itoa(g.DenyStatus))
	}
	return r
}

// Gate is [Client.Acquire] as a proxy asks, which goes by the status.
func (c *Client) Gate(ctx context.Context, agent string, in GateRequest) (out AcquireReply, err error) {
	_, err = c.do(ctx, in.of(pathOf([]string{"/v1/gate/", agent})), &out)
	return out, err
}

// GateBelow is [Client.Gate] for a proxy that appends the path of the call. The path is not looked at.
func (c *Client) GateBelow(ctx context.Context, agent, path string, in GateRequest) (out AcquireReply, err error) {
	_, err = c.do(ctx, in.of(pathOf([]string{"/v1/gate/", agent, "/", path})), &out)
	return out, err
}
