package workflow_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/workflow"
)

// guide is the deployment guide's example.
const guide = `{
  "workflow_id": "circuit-breaker-test",
  "steps": {
    "step-1": {
      "id": "step-1",
      "agent_name": "FailingAgent",
      "input_mapping": {
        "text": "test"
      }
    }
  }
}
`

func TestParseDefinition_ReadsTheGuidesExample(t *testing.T) {
	t.Parallel()
	d := parsed(t, guide)
	s := d.Steps["step-1"]
	if d.ID != "circuit-breaker-test" || len(d.Steps) != 1 || s.ID != "step-1" || s.Agent != "FailingAgent" || s.Input["text"] != "test" {
		t.Errorf("%+v", d)
	}
}

// full has every field.
const full = `{"workflow_id": "w:1@x", "name": "Ünï", "description": "two\nlines", "timeout_seconds": 3600, "steps": {
	"a.b": {"agent_name": "agent", "path": "/v1/run%20it", "timeout_seconds": 0.001, "input_mapping": {"n": 1.50, "x": ["$.input", {"y": null}]}},
	"c": {"id": "c", "agent_name": "agent", "depends_on": ["a.b"], "input_mapping": {"in": "$.steps[\"a.b\"].output.x[0]", "$.input": "$$.literal"},
		"on_failure": "continue", "defaults": {"$.steps[\"a.b\"].output.x[0]": {"n": 1.50, "text": ["$$.x", "$5", null]}}}}}`

func TestDefinition_RoundTrips(t *testing.T) {
	t.Parallel()
	d := parsed(t, full)
	if time.Duration(d.Timeout) != time.Hour || time.Duration(d.Steps["a.b"].Timeout) != time.Millisecond || d.Steps["a.b"].Path != "/v1/run%20it" || d.Steps["a.b"].ID != "a.b" {
		t.Errorf("%+v", d)
	}
	want := `{"workflow_id":"w:1@x","name":"Ünï","description":"two\nlines","timeout_seconds":3600,"steps":{` +
		`"a.b":{"id":"a.b","agent_name":"agent","input_mapping":{"n":1.50,"x":["$.input",{"y":null}]},"path":"/v1/run%20it","timeout_seconds":0.001},` +
		`"c":{"id":"c","agent_name":"agent","input_mapping":{"$.input":"$$.literal","in":"$.steps[\"a.b\"].output.x[0]"},"depends_on":["a.b"],` +
		`"on_failure":"continue","defaults":{"$.steps[\"a.b\"].output.x[0]":{"n":1.50,"text":["$$.x","$5",null]}}}}}`
	got := asJSON(t, d)
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if again := asJSON(t, parsed(t, got)); again != got {
		t.Errorf("read back: %s\nwritten:   %s", again, got)
	}
}

// step is a definition with one step, a, of these fields.
func step(fields string) string { return `{"workflow_id": "w", "steps": {"a": {` + fields + `}}}` }

// mapped is a definition with a step a, and a step b that maps x to a value.
func mapped(value string) string {
	return `{"workflow_id": "w", "steps": {"a": {"agent_name": "g"}, "b": {"agent_name": "g", "input_mapping": {"x": ` + value + `}}}}`
}

type badDefinition struct{ name, text, want string }

func badDefinitions() []badDefinition {
	const (
		wantName   = "bad agent name: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit"
		wantWord   = "bad step id: want 1 to 64 of A-Z a-z 0-9 . _ : @ -"
		wantPlan   = "want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit"
		wantRef    = `want $.steps.<id>.output; an id with dots is written $.steps["a.b"].output`
		wantPart   = `want [0], ["a name"] or .name`
		wantDots   = `want a name after each dot; others than plain ones are written ["…"]`
		wantMapped = "no such reference in the step's input_mapping"
		onlyStep   = `"steps": {"a": {"agent_name": "g"}}`
	)
	many := strings.Repeat("x", 65)
	return []badDefinition{
		{"nothing", ``, `line 1:1: unexpected end of JSON input`},
		{"half", `{"workflow_id": `, `line 1:16: unexpected end of JSON input`},
		{"no JSON", `{workflow_id: 1}`, `line 1:2: invalid character 'w' at start of value`},
		{"two values", `{} {}`, `line 1:4: want nothing after the value`},
		{"not UTF-8", "{\"workflow_id\": \"\xff\"}", `line 1:18: not UTF-8 text`},
		{"an array", `[]`, `want an object, not an array`},
		{"null", `null`, `want an object, not null`},
		{"empty", `{}`, "workflow_id is missing\nsteps is missing"},
		{"too large", `"` + strings.Repeat("x", workflow.MaxDefinition) + `"`, `larger than 1048576 bytes`},
		{"too deep", mapped(strings.Repeat("[", 29) + strings.Repeat("]", 29)), `steps.b.input_mapping.x` + strings.Repeat("[0]", 28) + `: nested deeper than 32 levels`},
		{"too many values", mapped("[1" + strings.Repeat(",1", 10_000) + "]"), `steps.b.input_mapping.x[9991]: more than 10000 values`},
		{"id of another type", `{"workflow_id": 7, ` + onlyStep + `}`, `workflow_id: want text, not a number`},
		{"id empty", `{"workflow_id": "", ` + onlyStep + `}`, `workflow_id: bad workflow id "": ` + wantPlan},
		{"id with a slash", `{"workflow_id": "a/b", ` + onlyStep + `}`, `workflow_id: bad workflow id "a/b": ` + wantPlan},
		{"id too long", `{"workflow_id": "` + strings.Repeat("x", 129) + `", ` + onlyStep + `}`, `workflow_id: 129 bytes; want at most 128`},
		{"id given twice", `{"workflow_id": "w", "workflow_id": "v", ` + onlyStep + `}`, `workflow_id: given twice: want each field once`},
		{"unknown field", `{"workflow_id": "w", "Name": "x", ` + onlyStep + `}`, `Name: unknown field; want one of description, name, steps, timeout_seconds, workflow_id`},
		{"unknown field of an odd name", `{"workflow_id": "w", "a.\u0000\"": 1, ` + onlyStep + `}`, `["a.\x00\""]: unknown field; want one of description, name, steps, timeout_seconds, workflow_id`},
		{"name is null", `{"workflow_id": "w", "name": null, ` + onlyStep + `}`, `name: want text, not null`},
		{"name too long", `{"workflow_id": "w", "name": "` + strings.Repeat("x", 257) + `", ` + onlyStep + `}`, `name: 257 bytes; want at most 256`},
		{"description a boolean", `{"workflow_id": "w", "description": true, ` + onlyStep + `}`, `description: want text, not a boolean`},
		{"no time", `{"workflow_id": "w", "timeout_seconds": 0, ` + onlyStep + `}`, `timeout_seconds: 0 is out of range; want 0.001 to 3600 seconds`},
		{"time as text", `{"workflow_id": "w", "timeout_seconds": "1", ` + onlyStep + `}`, `timeout_seconds: want a number of seconds, not text`},
		{"time of no float", `{"workflow_id": "w", "timeout_seconds": 1e999, ` + onlyStep + `}`, `timeout_seconds: 1e999 is out of range; want 0.001 to 3600 seconds`},
		{"no steps", `{"workflow_id": "w", "steps": {}}`, `steps: no steps; want at least one`},
		{"steps in an array", `{"workflow_id": "w", "steps": [{"id": "a"}]}`, `steps: want an object, not an array`},
		{"too many steps", `{"workflow_id": "w", "steps": {` + strings.TrimSuffix(manySteps(257), ",") + `}}`, `steps: 257 steps; want at most 256`},
		{"step id empty", `{"workflow_id": "w", "steps": {"": {"agent_name": "g"}}}`, `steps[""]: ` + wantWord},
		{"step id with a blank", `{"workflow_id": "w", "steps": {"a b": {"agent_name": "g"}}}`, `steps["a b"]: ` + wantWord},
		{"step id too long", `{"workflow_id": "w", "steps": {"` + many + `": {"agent_name": "g"}}}`, `steps.` + many[:64] + `…: ` + wantWord},
		{"step given twice", `{"workflow_id": "w", "steps": {"a": {"agent_name": "g"}, "a": {"agent_name": "g"}}}`, `steps.a: given twice: want each field once`},
		{"step is text", `{"workflow_id": "w", "steps": {"a": "g"}}`, `steps.a: want an object, not text`},
		{"step of another id", step(`"id": "b", "agent_name": "g"`), `steps.a.id: "b" stands under the name "a"; want the same`},
		{"step of an id that is no text", step(`"id": 1, "agent_name": "g"`), `steps.a.id: want text, not a number`},
		{"step's unknown field", step(`"agent_name": "g", "dependsOn": []`), `steps.a.dependsOn: unknown field; want one of agent_name, defaults, depends_on, id, input_mapping, on_failure, path, timeout_seconds`},
		{"no agent", step(`"id": "a"`), `steps.a: agent_name is missing`},
		{"agent's bad name", step(`"agent_name": "-g"`), `steps.a.agent_name: ` + wantName},
		{"agent unknown", step(`"agent_name": "ghost"`), `steps.a.agent_name: unknown agent "ghost"`},
		{"mapping is an array", step(`"agent_name": "g", "input_mapping": []`), `steps.a.input_mapping: want an object, not an array`},
		{"mapping's field twice", step(`"agent_name": "g", "input_mapping": {"x": {"y": 1, "y": 2}}`), `steps.a.input_mapping.x.y: given twice: want each field once`},
		{"depends on text", step(`"agent_name": "g", "depends_on": "b"`), `steps.a.depends_on: want an array, not text`},
		{"depends on a number", step(`"agent_name": "g", "depends_on": [1]`), `steps.a.depends_on[0]: want text, not a number`},
		{"depends on nobody", step(`"agent_name": "g", "depends_on": ["b"]`), `steps.a.depends_on[0]: no step "b"`},
		{"depends on itself", step(`"agent_name": "g", "depends_on": ["a"]`), `steps.a.depends_on[0]: a step cannot wait for itself`},
		{"depends twice", step(`"agent_name": "g", "depends_on": ["b", "b"]}, "b": {"agent_name": "g"`), `steps.a.depends_on[1]: "b" is named twice`},
		{"path without slash", step(`"agent_name": "g", "path": "run"`), `steps.a.path: want a path that begins with one "/"`},
		{"path to another host", step(`"agent_name": "g", "path": "//evil/x"`), `steps.a.path: want a path that begins with one "/"`},
		{"path to another host, encoded", step(`"agent_name": "g", "path": "/%2Fevil/x"`), `steps.a.path: want a path that begins with one "/"`},
		{"path up", step(`"agent_name": "g", "path": "/x/../y"`), `steps.a.path: want a path without the segments "." and ".."`},
		{"path up, encoded", step(`"agent_name": "g", "path": "/x/%2e%2E/y"`), `steps.a.path: want a path without the segments "." and ".."`},
		{"path up, encoded slash", step(`"agent_name": "g", "path": "/x%2f..%2fy"`), `steps.a.path: want a path without the segments "." and ".."`},
		{"path with a query", step(`"agent_name": "g", "path": "/x?y"`), `steps.a.path: want a path without query or fragment`},
		{"path with a fragment", step(`"agent_name": "g", "path": "/x#y"`), `steps.a.path: want a path without query or fragment`},
		{"path badly encoded", step(`"agent_name": "g", "path": "/x%2"`), `steps.a.path: want each % followed by two hex digits`},
		{"path with a line break", step(`"agent_name": "g", "path": "/x%0d%0ay"`), `steps.a.path: want a path without control characters and backslashes`},
		{"path not UTF-8", step(`"agent_name": "g", "path": "/x%ff"`), `steps.a.path: want a path without control characters and backslashes`},
		{"path with a backslash", step(`"agent_name": "g", "path": "/x\\y"`), `steps.a.path: want a path without control characters and backslashes`},
		{"path empty", step(`"agent_name": "g", "path": ""`), `steps.a.path: want a path that begins with one "/"`},
		{"path too long", step(`"agent_name": "g", "path": "/` + strings.Repeat("x", 1024) + `"`), `steps.a.path: 1025 bytes; want at most 1024`},
		{"step's time too long", step(`"agent_name": "g", "timeout_seconds": 3600.1`), `steps.a.timeout_seconds: 3600.1 is out of range; want 0.001 to 3600 seconds`},
		{"step's time below zero", step(`"agent_name": "g", "timeout_seconds": -1`), `steps.a.timeout_seconds: -1 is out of range; want 0.001 to 3600 seconds`},
		{"on failure, another word", step(`"agent_name": "g", "on_failure": "ignore"`), `steps.a.on_failure: "ignore" is not allowed; want "fail" or "continue"`},
		{"on failure, nothing", step(`"agent_name": "g", "on_failure": ""`), `steps.a.on_failure: "" is not allowed; want "fail" or "continue"`},
		{"on failure, null", step(`"agent_name": "g", "on_failure": null`), `steps.a.on_failure: null is not allowed; want "fail" or "continue"`},
		{"on failure, a list", step(`"agent_name": "g", "on_failure": ["continue"]`), `steps.a.on_failure: an array is not allowed; want "fail" or "continue"`},
		{"on failure of the whole", `{"workflow_id": "w", "on_failure": "continue", ` + onlyStep + `}`, `on_failure: unknown field; want one of description, name, steps, timeout_seconds, workflow_id`},
		{"defaults are null", step(`"agent_name": "g", "defaults": null`), `steps.a.defaults: want an object, not null`},
		{"default of nothing", step(`"agent_name": "g", "defaults": {"$.input.x": 1}`), `steps.a.defaults["$.input.x"]: ` + wantMapped},
		{"default by a field's name", step(`"agent_name": "g", "input_mapping": {"x": "$.input.x"}, "defaults": {"x": 1}`), `steps.a.defaults.x: ` + wantMapped},
		{"default of another spelling", step(`"agent_name": "g", "defaults": {"$.input[\"x\"]": 1}, "input_mapping": {"x": "$.input.x"}`), `steps.a.defaults["$.input[\"x\"]"]: ` + wantMapped},
		{"default of a literal", step(`"agent_name": "g", "input_mapping": {"x": "$$.input.x"}, "defaults": {"$$.input.x": 1}`), `steps.a.defaults["$$.input.x"]: ` + wantMapped},
		{"default given twice", step(`"agent_name": "g", "input_mapping": {"x": "$.input.x"}, "defaults": {"$.input.x": 1, "$.input.x": 2}`), `steps.a.defaults["$.input.x"]: given twice: want each field once`},
		{"default is a reference", step(`"agent_name": "g", "input_mapping": {"x": "$.input.x"}, "defaults": {"$.input.x": {"y": ["$.input.z"]}}`), `steps.a.defaults["$.input.x"].y[0]: a default is a value, not a reference; a literal "$." is written "$$."`},
		{"reference to something else", mapped(`"$.output"`), `steps.b.input_mapping.x: malformed reference "$.output": want $.input or $.steps.<id>.output`},
		{"reference to nothing", mapped(`"$."`), `steps.b.input_mapping.x: malformed reference "$.": ` + wantDots},
		{"reference nearly to input", mapped(`"$.inputs.a"`), `steps.b.input_mapping.x: malformed reference "$.inputs.a": want $.input or $.steps.<id>.output`},
		{"reference with two dots", mapped(`"$.input..a"`), `steps.b.input_mapping.x: malformed reference "$.input..a": ` + wantDots},
		{"reference with a blank", mapped(`"$.input.a b"`), `steps.b.input_mapping.x: malformed reference "$.input.a b": ` + wantDots},
		{"reference ends with a dot", mapped(`"$.input."`), `steps.b.input_mapping.x: malformed reference "$.input.": ` + wantDots},
		{"reference, bracket open", mapped(`"$.input[0"`), `steps.b.input_mapping.x: malformed reference "$.input[0": ` + wantPart},
		{"reference, bracket empty", mapped(`"$.input[]"`), `steps.b.input_mapping.x: malformed reference "$.input[]": ` + wantPart},
		{"reference, index below zero", mapped(`"$.input[-1]"`), `steps.b.input_mapping.x: malformed reference "$.input[-1]": ` + wantPart},
		{"reference, index with a zero", mapped(`"$.input[01]"`), `steps.b.input_mapping.x: malformed reference "$.input[01]": ` + wantPart},
		{"reference, huge index", mapped(`"$.input[99999999999999999999]"`), `steps.b.input_mapping.x: malformed reference "$.input[99999999999999999999]": ` + wantPart},
		{"reference, all of them", mapped(`"$.input[*]"`), `steps.b.input_mapping.x: malformed reference "$.input[*]": ` + wantPart},
		{"reference, name open", mapped(`"$.input[\"a]"`), `steps.b.input_mapping.x: malformed reference "$.input[\"a]": ` + wantPart},
		{"reference, name without its end", mapped(`"$.input[\"a\"b]"`), `steps.b.input_mapping.x: malformed reference "$.input[\"a\"b]": ` + wantPart},
		{"reference, no output", mapped(`"$.steps.a"`), `steps.b.input_mapping.x: malformed reference "$.steps.a": ` + wantRef},
		{"reference, other than output", mapped(`"$.steps.a.status"`), `steps.b.input_mapping.x: malformed reference "$.steps.a.status": ` + wantRef},
		{"reference, step by number", mapped(`"$.steps[0].output"`), `steps.b.input_mapping.x: malformed reference "$.steps[0].output": ` + wantRef},
		{"reference, dots", mapped(`"$.steps.x.y.output"`), `steps.b.input_mapping.x: malformed reference "$.steps.x.y.output": ` + wantRef},
		{"reference too long", mapped(`"$.input.` + strings.Repeat("x", 1020) + `"`), `steps.b.input_mapping.x: reference of 1028 bytes; want at most 1024`},
		{"reference dangles", mapped(`"$.steps.ghost.output"`), `steps.b.input_mapping.x: no step "ghost"`},
		{"reference dangles, deep", mapped(`[1, {"y z": ["$.steps.ghost.output.q"]}]`), `steps.b.input_mapping.x[1]["y z"][0]: no step "ghost"`},
		{"reference to itself", mapped(`"$.steps.b.output"`), `steps.b.input_mapping.x: a step cannot use its own output`},
		{"a ring of two", step(`"agent_name": "g", "depends_on": ["b"]}, "b": {"agent_name": "g", "depends_on": ["a"]`), `steps: the steps wait for one another: a -> b -> a`},
		{
			"a ring by references", `{"workflow_id": "w", "steps": {
			"d": {"agent_name": "g", "depends_on": ["c"]},
			"c": {"agent_name": "g", "input_mapping": {"x": ["$.steps.a.output"]}},
			"b": {"agent_name": "g", "input_mapping": {"x": "$.steps.c.output.y"}},
			"a": {"agent_name": "g", "depends_on": ["b"]}}}`, `steps: the steps wait for one another: a -> b -> c -> a`,
		},
		{
			"two rings", `{"workflow_id": "w", "steps": {
			"a": {"agent_name": "g", "depends_on": ["b"]}, "b": {"agent_name": "g", "depends_on": ["a"]},
			"c": {"agent_name": "g", "depends_on": ["d"]}, "d": {"agent_name": "g", "depends_on": ["c"]}}}`,
			"steps: the steps wait for one another: a -> b -> a\nsteps: the steps wait for one another: c -> d -> c",
		},
		{
			"several faults in the order of the text",
			`{"steps": {"a": {"path": "x", "agent_name": "ghost"}, "b": {"agent_name": ""}}, "workflow_id": "/"}`,
			"steps.a.path: want a path that begins with one \"/\"\nsteps.a.agent_name: unknown agent \"ghost\"\nsteps.b.agent_name: " + wantName +
				"\nworkflow_id: bad workflow id \"/\": " + wantPlan,
		},
	}
}

// manySteps is n steps, each followed by a comma.
func manySteps(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `"s%d": {"agent_name": "g"},`, i)
	}
	return out.String()
}

func TestParseDefinition_FaultsHaveTheirPath(t *testing.T) {
	t.Parallel()
	for _, c := range badDefinitions() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := workflow.ParseDefinition([]byte(c.text), func(agent string) bool { return agent != "ghost" })
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %v", err, c.want)
			}
			if _, ok := errors.AsType[*workflow.DefinitionError](err); !ok {
				t.Errorf("%T", err)
			}
		})
	}
}

func TestParseDefinition_AcceptsTheBounds(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"256 steps":         `{"workflow_id": "w", "steps": {` + strings.TrimSuffix(manySteps(256), ",") + `}}`,
		"longest id":        `{"workflow_id": "` + strings.Repeat("x", 128) + `", "steps": {"` + strings.Repeat("x", 64) + `": {"agent_name": "g"}}}`,
		"deepest":           mapped(strings.Repeat("[", 28) + strings.Repeat("]", 28)),
		"no mapping":        step(`"agent_name": "g"`),
		"dots in a path":    step(`"agent_name": "g", "path": "/a..b/.x/...;y=1"`),
		"only a slash":      step(`"agent_name": "g", "path": "/"`),
		"literal dollars":   mapped(`["$", "$5", "$$.steps.ghost.output", "$$", "a $.nonsense"]`),
		"odd names in refs": mapped(`["$.input.ä-b:c", "$.input[\"\\u0000.[\"][0][\"x\"].y", "$.steps[\"a\"].output"]`),
		"a diamond": `{"workflow_id": "w", "steps": {"a": {"agent_name": "g"}, "b": {"agent_name": "g", "depends_on": ["a"]},
			"c": {"agent_name": "g", "depends_on": ["a"]}, "d": {"agent_name": "g", "depends_on": ["b", "c"]}}}`,
		"depends and refers": step(`"agent_name": "g"}, "b": {"agent_name": "g", "depends_on": ["a"], "input_mapping": {"x": "$.steps.a.output"}`),
	} {
		if _, err := workflow.ParseDefinition([]byte(text), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseFile_FaultsHaveTheirLine(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{`"test"`, `"$.steps.ghost.output"`, `f.json:8: steps.step-1.input_mapping.text: no step "ghost"`},
		{`"FailingAgent"`, `"-"`, `f.json:6: steps.step-1.agent_name: bad agent name: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit`},
		{`"agent_name": "FailingAgent",`, ``, `f.json:4: steps.step-1: agent_name is missing`},
		{"      }\n", "      }, }\n", `f.json:9:10: invalid character '}' after a comma`},
		{`"step-1",`, "\"step-1\",\n\"id\": \"step-1\",", `f.json:6: steps.step-1.id: given twice: want each field once`},
		{`"workflow_id": "circuit-breaker-test",`, ``, `f.json:1: workflow_id is missing`},
		{"    }\n  }\n}\n", "", `f.json:9:8: unexpected end of JSON input`},
		{`circuit-breaker-test`, "circuit\xffbreaker", `f.json:2:26: not UTF-8 text`},
	} {
		_, err := workflow.ParseFile("f.json", strings.Replace(guide, c[0], c[1], 1))
		if err == nil || err.Error() != c[2] {
			t.Errorf("got  %v\nwant %s", err, c[2])
		}
	}
}

func TestParseDefinition_FaultsAreBounded(t *testing.T) {
	t.Parallel()
	_, err := workflow.ParseDefinition([]byte(`{"workflow_id": "w", "steps": {`+
		strings.TrimSuffix(strings.ReplaceAll(manySteps(50), `"g"`, `""`), ",")+`}}`), nil)
	var bad *workflow.DefinitionError
	if !errors.As(err, &bad) || len(bad.Faults) != 20 || bad.More != 30 || !strings.HasSuffix(err.Error(), "\nand 30 more faults") {
		t.Errorf("%v", err)
	}
	if f := bad.Faults[1]; f.Path != "steps.s1.agent_name" || f.Line != 1 || f.File != "" {
		t.Errorf("%+v", f)
	}
}

// malformed is a definition with n malformed references, below a name of the greatest length.
func malformed(n int) string {
	return mapped(`{"` + strings.Repeat("x", 64) + `": ["$.x"` + strings.Repeat(`,"$.x"`, n-1) + `]}`)
}

// Not parallel, for it measures allocations of the whole process.
func TestParseDefinition_FaultsTakeLittleMemory(t *testing.T) { //nolint:paralleltest // see above
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := workflow.ParseDefinition([]byte(malformed(9900)), nil)
	runtime.ReadMemStats(&after)
	if bad, _ := errors.AsType[*workflow.DefinitionError](err); bad == nil || len(bad.Faults) != 20 || bad.More != 9880 {
		t.Errorf("got %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d bytes are allocated", n)
	}
}

func TestLibrary_AcceptsAByteOrderMark(t *testing.T) {
	t.Parallel()
	if d, err := workflow.ParseFile("f.json", "\ufeff"+guide); err != nil || d.ID != "circuit-breaker-test" {
		t.Errorf("got %+v, %v", d, err)
	}
}
