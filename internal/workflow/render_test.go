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
	"time"

	"github.com/breakerd/breakerd/internal/workflow"
)

func TestRender_ReplacesReferences(t *testing.T) {
	t.Parallel()
	d := parsed(t, `{"workflow_id": "w", "steps": {
		"first.one": {"agent_name": "a", "path": "/run", "timeout_seconds": 1.5, "input_mapping": {
			"all": "$.input", "one": "$.input.list[1].n", "odd": "$.input[\"a b\"]", "text": "plain", "dollar": "$$.input", "price": "$5",
			"deep": {"x": [1.10, null, true, "$.input.big"]}}},
		"last": {"agent_name": "b", "input_mapping": {"whole": "$.steps[\"first.one\"].output", "n": "$.steps[\"first.one\"].output.deep.x[3]"}}}}`)
	var mu sync.Mutex
	calls := map[string]workflow.Call{}
	x := engine(func(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
		mu.Lock()
		defer mu.Unlock()
		calls[c.StepID] = c
		return echo(ctx, c)
	}).Execute(t.Context(), d, object(t, `{"list": [0, {"n": 1e400}], "a b": "<&>", "big": 123456789012345678901234567890.10}`))
	wantStatuses(t, x, workflow.Completed, map[string]workflow.Status{"first.one": "completed", "last": "completed"})
	first := `{"all":{"a b":"<&>","big":123456789012345678901234567890.10,"list":[0,{"n":1e400}]},"deep":{"x":[1.10,null,true,` +
		`123456789012345678901234567890.10]},"dollar":"$.input","odd":"<&>","one":1e400,"price":"$5","text":"plain"}`
	if got := string(calls["first.one"].Input); got != first {
		t.Errorf("first was sent\n%s, want\n%s", got, first)
	}
	last := `{"n":123456789012345678901234567890.10,"whole":` + first + `}`
	if got := string(calls["last"].Input); got != last {
		t.Errorf("last was sent\n%s, want\n%s", got, last)
	}
	c := calls["first.one"]
	if c.Agent != "a" || c.WorkflowID != "w" || c.Path != "/run" || c.Timeout != 1500*time.Millisecond || c.ExecutionID != x.ID || len(x.ID) != 32 {
		t.Errorf("%+v of execution %s", c, x.ID)
	}
	if len(x.Output) != 1 || string(x.Output["last"]) != last || x.Error != nil || x.Err != nil {
		t.Errorf("output %s, error %+v, want that of the step nobody waits for", x.Output, x.Error)
	}
}

func TestRender_PassesAnOutputOnUnchanged(t *testing.T) {
	t.Parallel()
	const answer = `{"z": 1.0, "a": "\u00e9", "z": 2}`
	x := engine(func(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
		if c.StepID == "a" {
			return json.RawMessage(answer), nil
		}
		return echo(ctx, c)
	}).Execute(t.Context(), parsed(t, mapped(`"$.steps.a.output"`)), nil)
	if got := string(x.Output["b"]); got != `{"x":`+answer+`}` {
		t.Errorf("b was sent %s", got)
	}
}

func TestCheckInput_MissingInputStopsTheExecution(t *testing.T) {
	t.Parallel()
	d := parsed(t, `{"workflow_id": "w", "steps": {
		"a": {"agent_name": "a", "input_mapping": {"x": "$.input.text", "y": ["$.input.list[2]", "$.input.null.deeper", "$.input.list.0"], "z": "$.input.null"}},
		"b": {"agent_name": "a", "depends_on": ["a"], "input_mapping": {"x": "$.input.text", "y": "$.input.object[0]"}}}}`)
	x := engine(func(context.Context, workflow.Call) (json.RawMessage, error) {
		t.Error("a step ran")
		return nil, nil
	}).Execute(t.Context(), d, object(t, `{"list": [1, 2], "null": null, "object": {}}`))
	wantStatuses(t, x, workflow.Failed, map[string]workflow.Status{"a": "skipped", "b": "skipped"})
	var missing *workflow.InputError
	if !errors.As(x.Err, &missing) || x.Error.Cause != workflow.CauseInputMissing {
		t.Fatalf("%v", x.Err)
	}
	want := `$.input.text is missing (steps.a.input_mapping.x wants it); ` +
		`$.input.list[2] is missing (steps.a.input_mapping.y[0] wants it); ` +
		`$.input.null.deeper is missing (steps.a.input_mapping.y[1] wants it); ` +
		`$.input.list.0 is missing (steps.a.input_mapping.y[2] wants it); ` +
		`$.input.object[0] is missing (steps.b.input_mapping.y wants it)`
	if missing.Error() != want || x.Error.Reason != want {
		t.Errorf("%v\nwant %s", missing, want)
	}
	if err := d.CheckInput(object(t, `{"text": 1, "list": {"0": 1}, "object": [1]}`)); err == nil || strings.Contains(err.Error(), "list.0") {
		t.Errorf("a name that looks like a number: %v", err)
	}
}

func TestCheckInput_ReportsFewMissingParts(t *testing.T) {
	t.Parallel()
	var fields []string
	for i := range 25 {
		fields = append(fields, fmt.Sprintf(`"f%02d": "$.input.x%d"`, i, i))
	}
	err := parsed(t, step(`"agent_name": "g", "input_mapping": {`+strings.Join(fields, ",")+`}`)).CheckInput(nil)
	missing, ok := errors.AsType[*workflow.InputError](err)
	if !ok || len(missing.Missing) != 20 || missing.More != 5 || !strings.HasSuffix(err.Error(), "; and 5 more") || strings.Count(err.Error(), ";") != 20 {
		t.Errorf("%v", err)
	}
}

func TestPick_PartsAreUnchanged(t *testing.T) {
	t.Parallel()
	const answer = ` { "n" : 1e400 , "list":[ {"x": [ 1 , 2.50 ]}, "\u00e9" ,{} ],"odd name": {"n":null},"twice":{"a":1}, "twice":{"b":2},"":0}
`
	for ref, want := range map[string]string{
		`.n`: `1e400`, `.list`: `[ {"x": [ 1 , 2.50 ]}, "\u00e9" ,{} ]`, `.list[0]`: `{"x": [ 1 , 2.50 ]}`, `.list[0].x`: `[ 1 , 2.50 ]`,
		`.list[0].x[1]`: `2.50`, `.list[1]`: `"\u00e9"`, `.list[2]`: `{}`, `["odd name"]`: `{"n":null}`, `["odd name"].n`: `null`, `.twice`: `{"a":1}`, `.twice.a`: `1`,
		`.twice.b`: ``, `.list[3]`: ``, `.list.x`: ``, `.n.x`: ``, `.n[0]`: ``, `[0]`: ``, `.list[0].x[1].y`: ``, `.nothing`: ``, `.list[1].x`: ``,
	} {
		text := asJSON(t, "$.steps.a.output"+ref)
		var sent []byte
		x := engine(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
			if c.StepID == "a" {
				return json.RawMessage(answer), nil
			}
			sent = c.Input
			return nil, nil
			// the other references are found in the same pass
		}).Execute(t.Context(), parsed(t, mapped(`{"it": `+text+`, "more": ["$.steps.a.output.list[0]", "$.steps.a.output.list[0].x", "$.steps.a.output.twice"]}`)), nil)
		if want == "" {
			if x.Error == nil || x.Error.Cause != workflow.CauseReference {
				t.Errorf("%s: %s %+v", ref, sent, x.Error)
			}
			continue
		}
		if want = `{"x":{"it":` + want + `,"more":[{"x": [ 1 , 2.50 ]},[ 1 , 2.50 ],{"a":1}]}}`; string(sent) != want {
			t.Errorf("%s: sent %s\nwant %s (%+v)", ref, sent, want, x.Error)
		}
	}
}

// Outputs are not decoded, which would take many times their size. Not parallel, for it measures allocations of the
// whole process.
func TestPick_TakesLittleMemory(t *testing.T) { //nolint:paralleltest // see above
	answer := json.RawMessage(`{"v":1,"rest":[` + strings.Repeat(`{},`, 300_000) + `{}]}`)
	var steps, refs []string
	for i := range 8 {
		steps = append(steps, fmt.Sprintf(`"s%d": {"agent_name": "a"}`, i))
		refs = append(refs, fmt.Sprintf(`"$.steps.s%d.output.v"`, i))
	}
	d := parsed(t, `{"workflow_id": "w", "steps": {`+strings.Join(steps, ",")+`, "z": {"agent_name": "a", "input_mapping": {"all": [`+strings.Join(refs, ",")+`]}}}}`)
	e := engine(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
		if c.StepID == "z" {
			return c.Input, nil
		}
		return answer, nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	x := e.Execute(t.Context(), d, nil)
	runtime.ReadMemStats(&after)
	if string(x.Output["z"]) != `{"all":[1,1,1,1,1,1,1,1]}` {
		t.Fatalf("%s %+v", x.Output["z"], x.Error)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d bytes for 8 outputs of %d", used, len(answer))
	}
}

func TestRender_UnusableAnswersAndReferencesFail(t *testing.T) {
	t.Parallel()
	chain := `{"workflow_id": "w", "steps": {"a": {"agent_name": "a"}, "b": {"agent_name": "b", "input_mapping": {"list": %s}}}}`
	big := json.RawMessage(`"` + strings.Repeat("x", 5<<20) + `"`)
	for name, c := range map[string]struct {
		mapping string
		answer  json.RawMessage
		step    string
		cause   string
		reason  string
	}{
		"a reference into nothing": {
			`[1, "$.steps.a.output.x.y"]`, json.RawMessage(`{"x": [1]}`), "b", workflow.CauseReference,
			`input_mapping.list[1]: $.steps.a.output.x.y is not in the output of step a`,
		},
		"an index beyond the end": {
			`"$.steps.a.output.x[1]"`, json.RawMessage(`{"x": [1]}`), "b", workflow.CauseReference,
			`input_mapping.list: $.steps.a.output.x[1] is not in the output of step a`,
		},
		"not JSON":  {`"$.steps.a.output"`, json.RawMessage(`{"x": `), "a", workflow.CauseBadOutput, "the agent's answer is not JSON"},
		"not UTF-8": {`"$.steps.a.output"`, json.RawMessage("\"\xff\""), "a", workflow.CauseBadOutput, "the agent's answer is not JSON"},
		"too much": {
			`"$.steps.a.output"`, json.RawMessage(`"` + strings.Repeat("x", workflow.MaxOutputs) + `"`), "a", workflow.CauseBadOutput,
			"the outputs of the execution are larger than 8388608 bytes",
		},
		"a look into too much": {
			`["$.steps.a.output.x"]`, json.RawMessage(`{"x": "` + strings.Repeat("x", workflow.MaxLookInto) + `"}`), "b", workflow.CauseReference,
			"input_mapping.list[0]: $.steps.a.output.x looks into an output of 1048585 bytes: one of more than 1048576 can only be passed on whole",
		},
		"an input too large": {
			`["$.steps.a.output", "$.steps.a.output"]`, big, "b", workflow.CauseInputTooLarge,
			"input_mapping.list[1]: the step's input is larger than 8388608 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := engine(func(_ context.Context, call workflow.Call) (json.RawMessage, error) {
				if call.StepID == "b" {
					t.Error("b was called")
				}
				return c.answer, nil
			}).Execute(t.Context(), parsed(t, fmt.Sprintf(chain, c.mapping)), nil)
			want := workflow.ExecutionError{Step: c.step, Agent: c.step, Cause: c.cause, Reason: c.reason}
			if x.Status != workflow.Failed || *x.Error != want || x.Steps[c.step].Status != workflow.Failed {
				t.Errorf("%s, step %s: %+v\nwant %+v", x.Status, x.Steps[c.step].Status, x.Error, want)
			}
		})
	}
}
