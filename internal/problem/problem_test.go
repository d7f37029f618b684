package problem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestCode_EachHasAStatus(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("code.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`Code = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	for _, c := range codes {
		if s := problem.Code(c[1]).Status(); http.StatusText(s) == "" || s < 400 {
			t.Errorf("%s: %d", c[1], s)
		}
	}
	if len(codes) < 40 {
		t.Errorf("only %d codes found", len(codes))
	}
}

func TestOf_NamesTheErrorsOfTheDomain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		code   problem.Code
		detail string
	}{
		{&breaker.StoreError{Err: io.EOF}, problem.StoreUnavailable, "Redis is down; nothing was done"},
		{&breaker.StoreError{Unknown: true, Err: io.EOF}, problem.StoreUnavailable, "Redis did not answer in time; it may have been done all the same"},
		{context.Canceled, problem.RequestTimeout, "the request ended before it was carried out"},
		{breaker.ErrBadName, problem.InvalidAgentName, breaker.ErrBadName.Error()},
		{breaker.ErrBadPermit, problem.InvalidPermit, breaker.ErrBadPermit.Error()},
		{breaker.ErrLeaseLost, problem.LeaseLost, breaker.ErrLeaseLost.Error()},
		{breaker.ErrHoldProtected, problem.HoldProtected, `the hold is protected: send "force": true to lift it`},
		{&breaker.PolicyError{Field: "mode", Value: "x", Allowed: "enforce or observe"}, problem.InvalidValue, "body.mode: want enforce or observe"},
		{&breaker.ForceError{Field: "reason", Value: `"\n"`, Allowed: "printable text"}, problem.InvalidValue, "body.reason: want printable text"},
		{breaker.ErrBadOutcome, problem.InvalidValue, breaker.ErrBadOutcome.Error()},
		{problem.New(problem.NotFound, "no %s", "path"), problem.NotFound, "no path"},
		{&breaker.OpenError{Agent: "a", Reason: breaker.ReasonOpen}, problem.CircuitBreakerOpen, "the circuit breaker of agent a refuses the call (open): try again in 1 s, at <time>. Going round the breaker is no way out: it protects what is behind it, and a call past it makes the trouble last"},
		{io.EOF, problem.Internal, "unexpected error; the log of this replica says which"},
	} {
		p, expected := problem.Of(fmt.Errorf("asked: %w", c.err))
		p.Detail = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]{8}Z`).ReplaceAllString(p.Detail, "<time>")
		if p.Code != c.code || p.Detail != c.detail || p.Status < 400 || expected == errors.Is(c.err, io.EOF) && c.code == problem.Internal {
			t.Errorf("%v: %+v, expected %v", c.err, p, expected)
		}
	}
}

func TestProblem_WritesItsHeadersInLowerCaseOnce(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	w.Header().Set("Retry-After", "9")
	problem.Refusal(&breaker.OpenError{
		Agent: "a", Reason: breaker.ReasonOpen, State: breaker.Open, Wait: time.Second,
	}).WithStatus(http.StatusUnauthorized).Write(w)
	h := map[string][]string(w.Header())
	for name, want := range map[string]string{"retry-after": "1", "x-circuit-breaker-state": "OPEN", "www-authenticate": "CircuitBreaker"} {
		if len(h[name]) != 1 || h[name][0] != want {
			t.Errorf("%s: %q", name, h[name])
		}
	}
	if w.Code != http.StatusUnauthorized || len(h["Retry-After"]) > 0 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", w.Code, h)
	}
}

func TestBadValue_ShortensWhatWasSent(t *testing.T) {
	t.Parallel()
	p := problem.BadValue("query.limit", string(make([]byte, 500)), "a whole number")
	if len(p.Errors) != 1 || len(p.Errors[0].Value) > 300 || p.Errors[0].Location != "query.limit" || p.Errors[0].Message != "want a whole number" {
		t.Errorf("%+v", p)
	}
}

func TestRefusal_SaysUntilWhenAndWhomToAsk(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, 1500 * time.Millisecond, time.Hour, math.MaxInt64} {
		before := time.Now().Truncate(time.Second)
		p := problem.Refusal(&breaker.OpenError{Agent: "a", Reason: breaker.ReasonForcedOpen, Wait: wait}).WithContact("#agents")
		var seconds int64
		var until, rest string
		if _, err := fmt.Sscanf(p.Detail, "the circuit breaker of agent a refuses the call (forced_open): try again in %d s, at %s %s", &seconds, &until, &rest); err != nil {
			t.Fatalf("%v: %s", err, p.Detail)
		}
		at, err := time.Parse(time.RFC3339, strings.TrimSuffix(until, "."))
		if err != nil || at.Before(before.Add(min(wait, 24*time.Hour))) || at.Location() != time.UTC {
			t.Errorf("%s: %s, %v", wait, until, err)
		}
		if seconds != p.RetryAfterSeconds || !strings.HasSuffix(p.Detail, ". Whom to ask about the agent: #agents") || !strings.Contains(p.Detail, "no way out") {
			t.Errorf("%s: %s", wait, p.Detail)
		}
	}
	p := problem.Refusal(&breaker.OpenError{Agent: "a", Reason: breaker.ReasonOpen})
	if before := p.Detail; p.WithContact("").Detail != before {
		t.Error(p.Detail)
	}
}
