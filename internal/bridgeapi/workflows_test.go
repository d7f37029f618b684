package bridgeapi

import (
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestWorkflows_AreMadeReplacedAndDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, workflowExample).Want(201, `workflow_id="circuit-breaker-test"`, `steps.step-1.agent_name="FailingAgent"`,
		`steps.step-1.input_mapping.text="test"`)
	g := f.Do("GET", workflowsPath+"/circuit-breaker-test", "").Want(200, `steps.step-1.id="step-1"`)
	f.Do("POST", workflowsPath, g.Text).Want(200)
	f.Do("POST", workflowsPath, `{"workflow_id":"circuit-breaker-test","name":"Two","timeout_seconds":5,"steps":{"a":{"agent_name":"A"},`+
		`"b":{"agent_name":"B","depends_on":["a"],"input_mapping":{"Text":"$.input.x","text":[1.50,{"deep":[null]}]},"path":"/p","timeout_seconds":0.25}}}`).
		Want(200, `name="Two"`, "timeout_seconds=5", `steps.b.input_mapping.Text="$.input.x"`, `steps.b.timeout_seconds=0.25`)
	f.Do("GET", workflowsPath, "").Want(200, `workflows.0.workflow_id="circuit-breaker-test"`, "workflows.0.steps=2", `workflows.0.origin="api"`,
		`workflows.1.workflow_id="in-directory"`, `workflows.1.origin="file"`, "degraded=null")
	f.Do("DELETE", workflowsPath+"/circuit-breaker-test", "").Want(204)
	f.Do("GET", workflowsPath+"/circuit-breaker-test", "").WantProblem(404, problem.WorkflowUnknown)
	f.Do("DELETE", workflowsPath+"/circuit-breaker-test", "").WantProblem(404, problem.WorkflowUnknown)
	f.Do("POST", workflowsPath+"/circuit-breaker-test/execute", "").WantProblem(404, problem.WorkflowUnknown)
}

func TestWorkflows_OfTheDirectoryAreNotChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"in-directory","steps":{"a":{"agent_name":"A"}}}`).WantProblem(409, problem.WorkflowInDirectory)
	f.Do("DELETE", workflowsPath+"/in-directory", "").WantProblem(409, problem.WorkflowInDirectory)
	f.Do("GET", workflowsPath+"/in-directory", "").Want(200, `steps.a.agent_name="FileAgent"`)
	f.Unharmed("all")
	for _, id := range []string{"a", "b", "c"} {
		f.workflow(id, "A")
	}
	f.Do("POST", workflowsPath, `{"workflow_id":"d","steps":{"a":{"agent_name":"A"}}}`).WantProblem(409, problem.TooManyWorkflows)
}

func TestWorkflows_EachFaultIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"a b","nonsense":1,"steps":{"a":{"agent_name":"A","depends_on":["b"]},"b":{"agent_name":"B c",`+
		`"input_mapping":{"x":"$.steps.none.output"}},"c":{"id":"d"}}}`).WantProblem(422, problem.InvalidValue).
		Want(422, `errors.0.location="body.workflow_id"`, `errors.1.location="body.nonsense"`, `errors.2.location="body.steps.b.agent_name"`,
			`errors.3.location="body.steps.b.input_mapping.x"`)
	f.Do("POST", workflowsPath, `{"workflow_id":"a","steps":{"s":{"agent_name":"Unknown"}}}`).WantProblem(422, problem.InvalidValue).
		Want(422, `errors.0.location="body.steps.s.agent_name"`)
	f.Do("POST", workflowsPath, `{"workflow_id":"a","steps":{"s":{"agent_name":"A","depends_on":["t"]},"t":{"agent_name":"A","depends_on":["s"]}}}`).
		WantProblem(422, problem.InvalidValue).Want(422, `errors.0.location="body.steps"`)
	step := func(rest string) string { return `{"workflow_id":"a","steps":{"s":{"agent_name":"A"` + rest + `}}}` }
	for _, bad := range []string{
		`{}`, `{"workflow_id":"a"}`, `{"workflow_id":"a","steps":{}}`, `{"workflow_id":"a","steps":[]}`, `{"workflow_id":7,"steps":{"s":{"agent_name":"A"}}}`,
		`{"workflow_id":"a\u0000","steps":{"s":{"agent_name":"A"}}}`, `{"workflow_id":"a","steps":{"s":null}}`, `{"workflow_id":"a","steps":{"a b":{"agent_name":"A"}}}`,
		step(`,"timeout_seconds":0`), step(`,"timeout_seconds":-1`), step(`,"timeout_seconds":3601`), step(`,"timeout_seconds":"1"`), step(`,"timeout_seconds":1e-400`),
		step(`,"path":"/../x"`), step(`,"path":"//x"`), step(`,"path":"/%2e%2e/x"`), step(`,"path":"http://x"`), step(`,"path":"/\u0000"`), step(`,"input_mapping":[]`),
		step(`,"input_mapping":{"a":"$."}`), step(`,"input_mapping":{"a":"$.steps.s.output"}`), step(`,"depends_on":["s"]`), step(`,"depends_on":"s"`), step(`,"Agent_name":"B"`),
		`{"workflow_id":"a","steps":{` + manySteps(257) + `}}`,
	} {
		g := f.Do("POST", workflowsPath, bad).WantProblem(422, problem.InvalidValue)
		if len(g.JSON["errors"].([]any)) == 0 {
			t.Errorf("%.200s: no fault is named: %s", bad, g.Text)
		}
	}
	f.Do("POST", workflowsPath, step(`,"agent_name":"B"`)).WantProblem(400, problem.InvalidJSON)
	f.Do("POST", workflowsPath, step(`,"timeout_seconds":NaN`)).WantProblem(400, problem.InvalidJSON)
	f.Unharmed("all")
}

func manySteps(n int) string {
	steps := make([]string, n)
	for i := range steps {
		steps[i] = `"s` + strconv.Itoa(i) + `":{"agent_name":"A"}`
	}
	return strings.Join(steps, ",")
}

func TestWorkflows_InputNestsAndNamesAsItLikes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	f.Do("POST", workflowsPath, `{"workflow_id":"w","steps":{"s":{"agent_name":"A","input_mapping":{"Deep":`+deep+`,"deep":"$.input.X"}}}}`).Want(201)
	f.Do("POST", workflowsPath+"/w/execute", `{"input":{"X":`+deep+`,"x":12345678901234567890}}`).Want(200, `output.s.Deep.a.a.a.a.a=`+strings.Repeat(`{"a":`, 15)+"1"+strings.Repeat("}", 15))
	f.Do("POST", workflowsPath+"/w/execute", `{"input":`+strings.Repeat(`{"a":`, 33)+"1"+strings.Repeat("}", 34)).WantProblem(400, problem.InvalidJSON)
	f.Do("POST", workflowsPath+"/w/execute", `{"input":{"x":1,"x":2}}`).WantProblem(400, problem.InvalidJSON)
}
