package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/workflow"
)

// plan is the graph of a definition: for each step, the earlier ones that it depends on, by depends_on or a reference.
type plan struct {
	on     [][]int
	refers [][]bool
}

func stepName(i int) string { return fmt.Sprintf("s%02d", i) }

func drawPlan(t *rapid.T) plan {
	var p plan
	for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
		var on []int
		var refers []bool
		for j := range i {
			if rapid.IntRange(0, 4).Draw(t, "edge") == 0 {
				on = append(on, j)
				refers = append(refers, rapid.Bool().Draw(t, "by reference"))
			}
		}
		p.on, p.refers = append(p.on, on), append(p.refers, refers)
	}
	return p
}

// text returns the plan as JSON. edit may change a step's fields; nil: none.
func (p plan) text(t *rapid.T, edit func(i int, fields map[string]any)) string {
	steps := map[string]any{}
	for i := range p.on {
		depends, mapping := []string{}, map[string]any{"n": i}
		for k, j := range p.on[i] {
			if p.refers[i][k] {
				mapping[stepName(j)] = []any{"$.steps." + stepName(j) + ".output.n"}
			} else {
				depends = append(depends, stepName(j))
			}
		}
		fields := map[string]any{"agent_name": "g", "depends_on": depends, "input_mapping": mapping}
		if edit != nil {
			edit(i, fields)
		}
		steps[stepName(i)] = fields
	}
	text, err := json.Marshal(map[string]any{"workflow_id": "w", "steps": steps})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tracker is a Caller that checks the order of its calls.
type tracker struct {
	mu      sync.Mutex
	p       plan
	done    map[string]bool
	calls   map[string]int
	running int
	most    int
	faults  []string
}

func (c *tracker) Call(_ context.Context, call workflow.Call) (json.RawMessage, error) {
	c.mu.Lock()
	var i int
	_, _ = fmt.Sscanf(call.StepID, "s%d", &i)
	c.calls[call.StepID]++
	for _, j := range c.p.on[i] {
		if !c.done[stepName(j)] {
			c.faults = append(c.faults, call.StepID+" before "+stepName(j))
		}
	}
	for k, j := range c.p.on[i] {
		if want := fmt.Sprintf(`%q:[%d]`, stepName(j), j); c.p.refers[i][k] && !strings.Contains(string(call.Input), want) {
			c.faults = append(c.faults, fmt.Sprintf("%s got %s, want %s", call.StepID, call.Input, want))
		}
	}
	c.running++
	c.most = max(c.most, c.running)
	c.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.done[call.StepID] = true
	return call.Input, nil
}

func TestExecute_AnyPlanRunsEachStepOnceAfterItsDependencies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		d, err := workflow.ParseDefinition([]byte(p.text(t, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &tracker{p: p, done: map[string]bool{}, calls: map[string]int{}}
		parallel := rapid.IntRange(1, 10).Draw(t, "parallel")
		x := workflow.NewEngine(workflow.EngineOptions{Caller: c, MaxParallel: parallel}).Execute(context.Background(), d, nil)
		if x.Status != workflow.Completed || len(c.faults) > 0 || c.most > parallel || len(c.calls) != len(p.on) {
			t.Fatalf("%s %+v: %v; %d at once of %d, %d steps of %d", x.Status, x.Error, c.faults, c.most, parallel, len(c.calls), len(p.on))
		}
		for id, n := range c.calls {
			if n != 1 {
				t.Errorf("%s ran %d times", id, n)
			}
		}
		for i := range p.on {
			leaf := !slices.ContainsFunc(p.on, func(on []int) bool { return slices.Contains(on, i) })
			if _, given := x.Output[stepName(i)]; given != leaf {
				t.Errorf("%s in the output: %v, want %v", stepName(i), given, leaf)
			}
		}
	})
}

func TestParseDefinition_AnyBadEditIsFoundWhereItIs(t *testing.T) {
	t.Parallel()
	edits := map[string]func(t *rapid.T, p plan, i int, fields map[string]any) (path string){
		"a cycle": func(_ *rapid.T, p plan, i int, fields map[string]any) string {
			later := slices.IndexFunc(p.on, func(on []int) bool { return slices.Contains(on, i) })
			if later < 0 { // nobody waits for it
				fields["depends_on"] = []string{stepName(i)}
				return "steps." + stepName(i) + ".depends_on[0]"
			}
			mapping, _ := fields["input_mapping"].(map[string]any)
			mapping["cycle"] = "$.steps." + stepName(later) + ".output"
			return "steps"
		},
		"a ghost": func(_ *rapid.T, _ plan, i int, fields map[string]any) string {
			on, _ := fields["depends_on"].([]string)
			fields["depends_on"] = append(on, "ghost")
			return fmt.Sprintf("steps.%s.depends_on[%d]", stepName(i), len(on))
		},
		"a bad value": func(t *rapid.T, _ plan, i int, fields map[string]any) string {
			name := rapid.SampledFrom([]string{"agent_name", "id", "path", "timeout_seconds", "input_mapping", "depends_on", "nonsense"}).Draw(t, "field")
			fields[name] = rapid.SampledFrom([]any{nil, true, "", -1, "\u0000"}).Draw(t, "value")
			return "steps." + stepName(i) + "." + name
		},
		"a bad reference": func(t *rapid.T, _ plan, i int, fields map[string]any) string {
			mapping, _ := fields["input_mapping"].(map[string]any)
			mapping["zz"] = map[string]any{"a.b": []any{rapid.SampledFrom([]string{"$.", "$.steps", "$.steps.ghost.output", "$.input["}).Draw(t, "reference")}}
			return "steps." + stepName(i) + `.input_mapping.zz["a.b"][0]`
		},
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				p := drawPlan(t)
				bad := rapid.IntRange(0, len(p.on)-1).Draw(t, "step")
				var path string
				text := p.text(t, func(i int, fields map[string]any) {
					if i == bad {
						path = edit(t, p, i, fields)
					}
				})
				_, err := workflow.ParseDefinition([]byte(text), nil)
				var e *workflow.DefinitionError
				if !errors.As(err, &e) || !slices.ContainsFunc(e.Faults, func(f jsondoc.Fault) bool { return f.Path == path }) {
					t.Fatalf("%s: %v, want a fault at %s", text, err, path)
				}
			})
		})
	}
}
