package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// statuses returns those of the steps.
func statuses(x workflow.Execution) map[string]workflow.Status {
	out := map[string]workflow.Status{}
	for id, s := range x.Steps {
		out[id] = s.Status
	}
	return out
}

func wantStatuses(t *testing.T, x workflow.Execution, whole workflow.Status, steps map[string]workflow.Status) {
	t.Helper()
	if x.Status != whole {
		t.Errorf("execution %s (%+v), want %s", x.Status, x.Error, whole)
	}
	if got, want := asJSON(t, statuses(x)), asJSON(t, steps); got != want {
		t.Errorf("steps %s\nwant  %s", got, want)
	}
}

// wide is n independent steps, and one, "end", that waits for all.
func wide(t *testing.T, n int) workflow.Definition {
	t.Helper()
	var steps, all []string
	for i := range n {
		steps = append(steps, fmt.Sprintf(`"s%02d": {"agent_name": "a"}`, i))
		all = append(all, fmt.Sprintf(`"s%02d"`, i))
	}
	return parsed(t, fmt.Sprintf(`{"workflow_id": "wide", "steps": {%s, "end": {"agent_name": "a", "depends_on": [%s]}}}`,
		strings.Join(steps, ","), strings.Join(all, ",")))
}

func TestExecute_IndependentStepsRunAtOnceUpToMaxParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			most = max(most, running)
		}
		begun := time.Now()
		x := engine(func(context.Context, workflow.Call) (json.RawMessage, error) {
			count(1)
			<-time.After(time.Second)
			count(-1)
			return nil, nil
		}).Execute(t.Context(), wide(t, 20), nil)
		if x.Status != workflow.Completed || most != 8 {
			t.Errorf("%s with %d at once, want 8", x.Status, most)
		}
		// 20 steps, 8 at a time, take three rounds; "end" is the fourth.
		if took := time.Since(begun); took != 4*time.Second || x.DurationMs != 4000 || x.Steps["end"].DurationMs != 1000 {
			t.Errorf("took %v, says %d ms, end %d ms", took, x.DurationMs, x.Steps["end"].DurationMs)
		}
		if got := string(x.Output["end"]); got != "null" {
			t.Errorf("an answer of nothing is %q, want null", got)
		}
		if got := x.Steps["end"].StartedAt.Sub(x.StartedAt); got != 3*time.Second {
			t.Errorf("end started after %v", got)
		}
	})
}

func TestExecute_StepStartsWhenItsDependenciesAreComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := parsed(t, `{"workflow_id": "w", "steps": {"slow": {"agent_name": "a"}, "fast": {"agent_name": "a"},
			"next": {"agent_name": "a", "input_mapping": {"x": "$.steps.fast.output"}}}}`)
		x := engine(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
			if c.StepID == "slow" {
				<-time.After(time.Minute)
			}
			return nil, nil
		}).Execute(t.Context(), d, nil)
		if got := x.Steps["next"].StartedAt; !got.Equal(x.StartedAt) || x.DurationMs != 60_000 {
			t.Errorf("next started at %v, execution at %v and took %d ms", got, x.StartedAt, x.DurationMs)
		}
	})
}

// fork is three steps: a calls a function of the test, b runs until it is cancelled, c waits for a.
const fork = `{"workflow_id": "fork", "steps": {"a": {"agent_name": "agent-a"}, "b": {"agent_name": "agent-b"},
	"c": {"agent_name": "agent-c", "depends_on": ["a"]}}}`

func TestExecute_FailureCancelsSiblingsAndSkipsTheRest(t *testing.T) {
	t.Parallel()
	open := &breaker.OpenError{Agent: "agent-a", State: breaker.Open, Reason: breaker.ReasonOpen, Wait: 29500 * time.Millisecond}
	for name, c := range map[string]struct {
		err    error
		panics any
		status workflow.Status
		want   workflow.ExecutionError
	}{
		"an error": {err: errors.New("boom"), status: workflow.Failed, want: workflow.ExecutionError{Cause: "agent_failed", Reason: "boom"}},
		"an error with its cause": {
			err: fmt.Errorf("call: %w", &workflow.CallError{Cause: "status_503", Err: errors.New("503 from http://a")}), status: workflow.Failed,
			want: workflow.ExecutionError{Cause: "status_503", Reason: "call: 503 from http://a"},
		},
		"a refusal": {
			err: fmt.Errorf("call: %w", open), status: workflow.Refused,
			want: workflow.ExecutionError{Cause: "circuit_breaker_open", Reason: "open", RetryAfterSeconds: 30},
		},
		"a panic": {panics: "oops", status: workflow.Failed, want: workflow.ExecutionError{Cause: "panic", Reason: "panic: oops"}},
		"long words": {
			err: errors.New(strings.Repeat("\x00", 600)), status: workflow.Failed,
			want: workflow.ExecutionError{Cause: "agent_failed", Reason: strings.Repeat("�", 500) + "…"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := engine(func(ctx context.Context, call workflow.Call) (json.RawMessage, error) {
					if call.StepID == "b" {
						<-ctx.Done()
						return nil, fmt.Errorf("call: %w", ctx.Err())
					}
					<-time.After(time.Second)
					if c.panics != nil {
						panic(c.panics)
					}
					return nil, c.err
				}).Execute(t.Context(), parsed(t, fork), nil)
				wantStatuses(t, x, c.status, map[string]workflow.Status{"a": c.status, "b": "cancelled", "c": "skipped"})
				step := c.want
				if got := x.Steps["a"].Error; got == nil || *got != step {
					t.Errorf("step: %+v, want %+v", got, step)
				}
				whole := c.want
				whole.Step, whole.Agent = "a", "agent-a"
				if x.Error == nil || *x.Error != whole {
					t.Errorf("execution: %+v, want %+v", x.Error, whole)
				}
				if c.err != nil && !errors.Is(x.Err, c.err) {
					t.Errorf("the original error is lost: %v", x.Err)
				}
				if x.DurationMs != 1000 || x.Output != nil || x.Steps["b"].Error.Cause != "cancelled" || x.Steps["c"].Error != nil {
					t.Errorf("%+v", x)
				}
			})
		})
	}
}

func TestExecute_ReportsTheFirstFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := engine(func(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
			if c.StepID == "b" { // b does not watch its context
				<-ctx.Done()
				<-time.After(time.Second)
				return json.RawMessage(`"late"`), nil
			}
			return nil, errors.New("first")
		}).Execute(t.Context(), parsed(t, fork), nil)
		wantStatuses(t, x, workflow.Failed, map[string]workflow.Status{"a": "failed", "b": "completed", "c": "skipped"})
		if x.Error.Step != "a" || string(x.Steps["b"].Output) != `"late"` {
			t.Errorf("%+v, b %s", x.Error, x.Steps["b"].Output)
		}
	})
}

func TestExecute_PanicAndGoexitAreFailures(t *testing.T) {
	t.Parallel()
	x := engine(func(context.Context, workflow.Call) (json.RawMessage, error) {
		runtime.Goexit()
		return nil, nil
	}).Execute(t.Context(), parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "a"}}}`), nil)
	if x.Status != workflow.Failed || x.Error.Cause != workflow.CausePanic {
		t.Errorf("%s %+v", x.Status, x.Error)
	}
}

func TestExecute_CancelledContextCancelsAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		wait := func(ctx context.Context, _ workflow.Call) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		x := engine(wait).Execute(ctx, parsed(t, fork), nil)
		wantStatuses(t, x, workflow.Cancelled, map[string]workflow.Status{"a": "cancelled", "b": "cancelled", "c": "skipped"})
		if x.Error.Cause != workflow.CauseCancelled || !errors.Is(x.Err, context.Canceled) || x.Error.Step != "" {
			t.Errorf("%+v, %v", x.Error, x.Err)
		}
		x = engine(wait).Execute(ctx, parsed(t, fork), nil)
		wantStatuses(t, x, workflow.Cancelled, map[string]workflow.Status{"a": "skipped", "b": "skipped", "c": "skipped"})
	})
}

func TestExecute_TimeIsBounded(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[string]time.Duration{`"timeout_seconds": 2.5,`: 2500 * time.Millisecond, ``: 10 * time.Minute} {
		t.Run(want.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				wait := func(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
					if c.StepID == "only-a" {
						return nil, nil
					}
					<-ctx.Done()
					return nil, ctx.Err()
				}
				x := engine(wait).Execute(t.Context(), parsed(t, strings.Replace(fork, `"steps"`, timeout+`"steps"`, 1)), nil)
				wantStatuses(t, x, workflow.Failed, map[string]workflow.Status{"a": "cancelled", "b": "cancelled", "c": "skipped"})
				reason := fmt.Sprintf("not done within %v; running: a, b", want)
				if *x.Error != (workflow.ExecutionError{Cause: "timeout", Reason: reason}) || !errors.Is(x.Err, context.DeadlineExceeded) {
					t.Errorf("%+v, %v; want %s", x.Error, x.Err, reason)
				}
				if x.DurationMs != want.Milliseconds() {
					t.Errorf("took %d ms, want %v", x.DurationMs, want)
				}
				one := strings.Replace(fork, `"a": {`, `"only-a": {`, 1)
				one = strings.Replace(one, `["a"]`, `["b"]`, 1)
				x = engine(wait).Execute(t.Context(), parsed(t, strings.Replace(one, `"steps"`, timeout+`"steps"`, 1)), nil)
				if x.Error.Step != "b" || x.Error.Agent != "agent-b" || x.Steps["only-a"].Status != workflow.Completed {
					t.Errorf("%+v, want it to name b alone", x.Error)
				}
			})
		})
	}
}

// A deadline would count as the agent's failure.
func TestExecute_TimeoutIsNoDeadlineOfItsCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen breaker.Outcome
		x := engine(func(ctx context.Context, _ workflow.Call) (json.RawMessage, error) {
			<-ctx.Done()
			seen = breaker.Classify(ctx, context.Cause(ctx))
			return nil, ctx.Err()
		}).Execute(t.Context(), parsed(t, `{"workflow_id": "w", "timeout_seconds": 1, "steps": {"a": {"agent_name": "healthy"}}}`), nil)
		if x.Error == nil || x.Error.Cause != workflow.CauseTimeout || x.DurationMs != 1000 {
			t.Errorf("%s %+v", x.Status, x.Error)
		}
		if seen.Kind != breaker.Ignored {
			t.Errorf("the agent's breaker takes it for %+v, want it to be ignored", seen)
		}
	})
}

func TestExecute_MaxExecutionsRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := workflow.NewEngine(workflow.EngineOptions{MaxExecutions: 2, Caller: callerFunc(func(context.Context, workflow.Call) (json.RawMessage, error) {
			<-time.After(time.Second)
			return nil, nil
		})})
		d := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "a"}}}`)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if x := e.Execute(t.Context(), d, nil); x.Status != workflow.Completed {
					t.Errorf("%s %+v", x.Status, x.Error)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		x := e.Execute(t.Context(), d, nil)
		if !errors.Is(x.Err, workflow.ErrTooManyExecutions) || x.Status != workflow.Failed || x.Error.Cause != workflow.CauseTooMany || time.Since(begun) > 0 {
			t.Errorf("%s %+v after %v", x.Status, x.Error, time.Since(begun))
		}
		wantStatuses(t, x, workflow.Failed, map[string]workflow.Status{"a": "skipped"})
		wg.Wait()
		if x := e.Execute(t.Context(), d, nil); x.Status != workflow.Completed {
			t.Errorf("when the others have ended: %s %+v", x.Status, x.Error)
		}
	})
}

// ParseDefinition refuses these. An engine that gets them neither hangs nor crashes.
func TestExecute_EndsWithADefinitionThatWasNotParsed(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]map[string]workflow.Step{
		"a ring":             {"a": {DependsOn: []string{"b"}}, "b": {DependsOn: []string{"a"}}},
		"nobody to wait for": {"a": {DependsOn: []string{"ghost"}}},
		"a bad reference":    {"a": {Input: map[string]any{"x": "$.nonsense"}}},
		"no JSON":            {"a": {Input: map[string]any{"x": func() {}}}},
	} {
		x := engine(echo).Execute(t.Context(), workflow.Definition{ID: "w", Steps: steps}, nil)
		if x.Status != workflow.Failed || x.Error.Cause != workflow.CauseBadDefinition || x.Error.Step != "a" {
			t.Errorf("%s: %s %+v", name, x.Status, x.Error)
		}
	}
}

func TestExecution_JSON(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := engine(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
			<-time.After(20 * time.Millisecond)
			if c.StepID == "a" {
				return json.RawMessage(`{"n": 1.0}`), nil
			}
			return nil, &breaker.OpenError{Agent: c.Agent, State: breaker.Open, Reason: breaker.ReasonOpen, Wait: time.Minute}
		}).Execute(t.Context(), parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "x"}, "b": {"agent_name": "y", "depends_on": ["a"]},
			"c": {"agent_name": "z", "depends_on": ["b"]}}}`), nil)
		x.ID = "id"
		want := `{"execution_id":"id","workflow_id":"w","status":"refused","started_at":"2000-01-01T00:00:00Z","finished_at":"2000-01-01T00:00:00.04Z",` +
			`"duration_ms":40,"steps":{` +
			`"a":{"id":"a","agent_name":"x","status":"completed","started_at":"2000-01-01T00:00:00Z","duration_ms":20,"output":{"n":1.0}},` +
			`"b":{"id":"b","agent_name":"y","status":"refused","started_at":"2000-01-01T00:00:00.02Z","duration_ms":20,` +
			`"error":{"cause":"circuit_breaker_open","reason":"open","retry_after_seconds":60}},` +
			`"c":{"id":"c","agent_name":"z","status":"skipped","duration_ms":0}},` +
			`"error":{"step":"b","agent":"y","cause":"circuit_breaker_open","reason":"open","retry_after_seconds":60}}`
		if got := asJSON(t, x); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}
