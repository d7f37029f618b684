package gateway_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// execute runs one step that calls the agent, with so much memory.
func execute(t *testing.T, f *fixture, most int64) (x workflow.Execution, taken int64) {
	t.Helper()
	d, err := workflow.ParseDefinition([]byte(`{"workflow_id": "w", "steps": {"s": {"agent_name": "Agent"}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := budget.New(most)
	x = workflow.NewEngine(workflow.EngineOptions{Caller: f.gate, Budget: b}).Execute(t.Context(), d, nil)
	taken = b.Taken()
	x.Release()
	if n := b.Taken(); n != 0 {
		t.Errorf("%d bytes were not given back", n)
	}
	return x, taken
}

// The breaker gets its verdict, whether there is memory for an answer or not.
func TestStep_AnswerIsTakenFromTheBudgetAsItIsRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind     string
		status   int
		text     string
		most     int64
		cause    string
		least    int64 // that is taken at last
		failures int64
	}{
		"fits":                     {"application/json", 200, `"` + strings.Repeat("x", 100_000) + `"`, 1 << 20, "", 100_002, 0},
		"does not fit":             {"application/json", 200, `"` + strings.Repeat("x", 1_000_000) + `"`, 1 << 20, workflow.CauseMemory, 0, 0},
		"a text has a copy":        {"text/plain", 200, strings.Repeat("x", 100_000), 1 << 20, "", 200_002, 0},
		"its copy does not fit":    {"text/plain", 200, strings.Repeat("\x01", 150_000), 1 << 20, workflow.CauseMemory, 0, 0},
		"a text is too long":       {"text/plain", 200, strings.Repeat("\x01", 2_000_000), 64 << 20, workflow.CauseBadOutput, 0, 0},
		"an error needs no memory": {"application/json", 500, strings.Repeat("x", 1_000_000), 1000, "status_500", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				w.Header().Set("Content-Length", strconv.Itoa(len(c.text)))
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.text)
			}))
			x, taken := execute(t, f, c.most)
			if c.cause == "" && x.Status != workflow.Completed || c.cause != "" && (x.Error == nil || x.Error.Cause != c.cause) || taken < c.least {
				t.Errorf("%s %+v with %d bytes taken", x.Status, x.Error, taken)
			}
			if state, failures, _ := f.counted("Agent"); failures != c.failures || state != breaker.Closed {
				t.Errorf("%d failures, %s", failures, state)
			}
		})
	}
}
