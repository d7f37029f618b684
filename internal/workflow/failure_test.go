package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// tolerant goes on without a.
const tolerant = `{"workflow_id": "w", "steps": {
	"a": {"agent_name": "down", "on_failure": "continue"},
	"b": {"agent_name": "g", "input_mapping": {"whole": "$.steps.a.output", "part": ["$.steps.a.output.x.y", "$.input.lang"]},
		"defaults": {"$.steps.a.output": null, "$.steps.a.output.x.y": {"text": "$$.none", "n": 1.50}, "$.input.lang": "en"}},
	"c": {"agent_name": "g", "depends_on": ["a"]}}}`

// echoUnlessDown answers with its input, but for the agent "down".
func echoUnlessDown(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
	if c.Agent == "down" {
		return nil, &workflow.CallError{Cause: "down", Err: errors.New("it is down")}
	}
	return echo(ctx, c)
}

func TestOnFailure_ContinueRunsTheRest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails  error
		status workflow.Status
		want   workflow.ExecutionError
	}{
		"failed": {errors.New("boom"), workflow.Failed, workflow.ExecutionError{Cause: "agent_failed", Reason: "boom"}},
		"timed out": {
			&workflow.CallError{Cause: "upstream_timeout", Err: context.DeadlineExceeded}, workflow.Failed,
			workflow.ExecutionError{Cause: "upstream_timeout", Reason: "context deadline exceeded"},
		},
		"refused": {
			&breaker.OpenError{Agent: "down", State: breaker.Open, Reason: breaker.ReasonOpen, Wait: time.Minute}, workflow.Refused,
			workflow.ExecutionError{Cause: "circuit_breaker_open", Reason: "open", RetryAfterSeconds: 60},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := engine(func(ctx context.Context, call workflow.Call) (json.RawMessage, error) {
				if call.Agent == "down" {
					return nil, c.fails
				}
				return echo(ctx, call)
			}).Execute(t.Context(), parsed(t, tolerant), nil)
			wantStatuses(t, x, workflow.Completed, map[string]workflow.Status{"a": c.status, "b": "completed", "c": "completed"})
			if x.Error != nil || x.Err != nil || !slices.Equal(x.FailedSteps, []string{"a"}) || *x.Steps["a"].Error != c.want {
				t.Errorf("%+v, %v, failed %v: %+v", x.Error, x.Err, x.FailedSteps, x.Steps["a"].Error)
			}
			want := `{"b":{"part":[{"n":1.50,"text":"$.none"},"en"],"whole":null},"c":{}}`
			if got := asJSON(t, x.Output); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestOnFailure_LastStepMayFailToo(t *testing.T) {
	t.Parallel()
	x := engine(echoUnlessDown).Execute(t.Context(), parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "g"},
		"z": {"agent_name": "down", "depends_on": ["a"], "on_failure": "continue"}, "b": {"agent_name": "down", "depends_on": ["a"], "on_failure": "continue"}}}`), nil)
	wantStatuses(t, x, workflow.Completed, map[string]workflow.Status{"a": "completed", "b": "failed", "z": "failed"})
	if got := asJSON(t, x); !strings.Contains(got, `"failed_steps":["b","z"]`) || strings.Contains(got, `"output":{"b"`) || strings.Contains(got, `"z":null`) {
		t.Error(got)
	}
}

func TestOnFailure_AbsentReferenceWithoutDefaultFailsItsStep(t *testing.T) {
	t.Parallel()
	for steps, want := range map[string]workflow.ExecutionError{
		`"b": {"agent_name": "g", "input_mapping": {"x": ["$.steps.a.output"]}}`: {
			Step: "b", Agent: "g", Cause: "reference_missing", Reason: "input_mapping.x[0]: $.steps.a.output has no value, for step a failed",
		},
		`"b": {"agent_name": "g", "input_mapping": {"x": "$.steps.a.output.y", "z": "$.steps.a.output"}, "defaults": {"$.steps.a.output": 1}}`: {
			Step: "b", Agent: "g", Cause: "reference_missing", Reason: "input_mapping.x: $.steps.a.output.y has no value, for step a failed",
		},
		`"o": {"agent_name": "g"}, "b": {"agent_name": "g", "depends_on": ["a"], "input_mapping": {"x": "$.steps.o.output.y"}}`: {
			Step: "b", Agent: "g", Cause: "reference_missing", Reason: "input_mapping.x: $.steps.o.output.y is not in the output of step o",
		},
	} {
		d := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "down", "on_failure": "continue"}, `+steps+`}}`)
		x := engine(echoUnlessDown).Execute(t.Context(), d, nil)
		if x.Status != workflow.Failed || *x.Error != want || x.Output != nil || !slices.Equal(x.FailedSteps, []string{"a"}) {
			t.Errorf("%s: %s %+v", steps, x.Status, x.Error)
		}
		lenient := strings.Replace(steps, `"b": {`, `"b": {"on_failure": "continue", `, 1)
		d = parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "down", "on_failure": "continue"}, `+lenient+`, "c": {"agent_name": "g", "depends_on": ["b"]}}}`)
		x = engine(echoUnlessDown).Execute(t.Context(), d, nil)
		if x.Status != workflow.Completed || x.Steps["b"].Status != workflow.Failed || x.Steps["b"].Error.Reason != want.Reason || x.Steps["c"].Status != workflow.Completed {
			t.Errorf("%s: %s %+v", lenient, x.Status, x.Error)
		}
	}
}

func TestDefaults_AreForWhatIsAbsentOnly(t *testing.T) {
	t.Parallel()
	d := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "g", "input_mapping": {"null": null, "x": "$.input.x"}, "defaults": {"$.input.x": "default"}},
		"b": {"agent_name": "g", "input_mapping": {"null": "$.steps.a.output.null", "x": "$.steps.a.output.x", "y": "$.steps.a.output.y", "whole": "$.steps.a.output"},
			"defaults": {"$.steps.a.output.null": 1, "$.steps.a.output.x": 2, "$.steps.a.output.y": [3], "$.steps.a.output": 4}}}}`)
	for input, want := range map[string]string{
		`{}`:          `{"null":null,"whole":{"null":null,"x":"default"},"x":"default","y":[3]}`,
		`{"x": null}`: `{"null":null,"whole":{"null":null,"x":null},"x":null,"y":[3]}`,
		`{"x": [5]}`:  `{"null":null,"whole":{"null":null,"x":[5]},"x":[5],"y":[3]}`,
	} {
		x := engine(echo).Execute(t.Context(), d, object(t, input))
		if got := string(x.Output["b"]); got != want {
			t.Errorf("%s: %s %+v, got %s, want %s", input, x.Status, x.Error, got, want)
		}
	}
	other := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "g", "input_mapping": {"x": "$.input.x"}, "defaults": {"$.input.x": 1}},
		"b": {"agent_name": "g", "input_mapping": {"x": ["$.input.x"]}}}}`)
	if err := other.CheckInput(nil); err == nil || err.Error() != "$.input.x is missing (steps.b.input_mapping.x[0] wants it)" {
		t.Errorf("a step without a default: %v", err)
	}
}

func TestOnFailure_TimeOfTheWholeStopsItAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := parsed(t, `{"workflow_id": "w", "timeout_seconds": 1, "steps": {"a": {"agent_name": "g", "on_failure": "continue"}, "b": {"agent_name": "g", "depends_on": ["a"]}}}`)
		x := engine(func(ctx context.Context, _ workflow.Call) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}).Execute(t.Context(), d, nil)
		wantStatuses(t, x, workflow.Failed, map[string]workflow.Status{"a": "cancelled", "b": "skipped"})
		if x.Error.Cause != workflow.CauseTimeout || x.FailedSteps != nil {
			t.Errorf("%+v, %v", x.Error, x.FailedSteps)
		}
	})
}

// Bounds of the execution stop it, whatever the step says.
func TestOnFailure_BoundsStopIt(t *testing.T) {
	t.Parallel()
	d := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "g"}, "b": {"agent_name": "g", "depends_on": ["a"], "on_failure": "continue"},
		"c": {"agent_name": "g", "depends_on": ["b"]}}}`)
	x := answering(nil, workflow.MaxOutputs*2/3).Execute(t.Context(), d, nil)
	wantStatuses(t, x, workflow.Failed, map[string]workflow.Status{"a": "completed", "b": "failed", "c": "skipped"})
	if x.Error.Cause != workflow.CauseBadOutput {
		t.Errorf("%+v", x.Error)
	}
}

// In any plan with any steps down: with continue everywhere all others run, and get defaults for what is absent.
func TestOnFailure_AnyPlanGoesOn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		down := map[string]bool{}
		d, err := workflow.ParseDefinition([]byte(p.text(t, func(i int, fields map[string]any) {
			fields["on_failure"] = "continue"
			defaults := map[string]any{}
			for k, j := range p.on[i] {
				if p.refers[i][k] {
					defaults["$.steps."+stepName(j)+".output.n"] = j // what the step would have answered
				}
			}
			fields["defaults"] = defaults
			if rapid.Bool().Draw(t, "down") {
				fields["agent_name"], down[stepName(i)] = "down", true
			}
		})), nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &tracker{p: p, done: map[string]bool{}, calls: map[string]int{}}
		x := engine(func(ctx context.Context, call workflow.Call) (json.RawMessage, error) {
			out, err := c.Call(ctx, call)
			if down[call.StepID] {
				return nil, errors.New("down")
			}
			return out, err
		}).Execute(context.Background(), d, nil)
		if x.Status != workflow.Completed || len(c.faults) > 0 || len(c.calls) != len(p.on) || len(x.FailedSteps) != len(down) {
			t.Fatalf("%s %+v: %v; %d steps of %d, failed %v of %v", x.Status, x.Error, c.faults, len(c.calls), len(p.on), x.FailedSteps, down)
		}
		for id, s := range x.Steps {
			if (s.Status == workflow.Failed) != down[id] || (s.Output == nil) != down[id] || (s.Error != nil) != down[id] {
				t.Fatal(fmt.Sprintf("%s: %+v", id, s))
			}
		}
	})
}
