package workflow_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/workflow"
)

// Not parallel, for it measures allocations of the whole process.
func TestCycles_AreBounded(t *testing.T) { //nolint:paralleltest // see above
	const n = 98
	name := func(i int) string { return fmt.Sprintf("s%063d", i) }
	var steps []string
	for i := range n {
		var on []string
		for j := range n {
			if j != i {
				on = append(on, `"`+name(j)+`"`)
			}
		}
		steps = append(steps, fmt.Sprintf(`%q: {"agent_name": "g", "depends_on": [%s]}`, name(i), strings.Join(on, ",")))
	}
	text := `{"workflow_id": "w", "steps": {` + strings.Join(steps, ",") + `}}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := workflow.ParseDefinition([]byte(text), nil)
	runtime.ReadMemStats(&after)
	bad, ok := errors.AsType[*workflow.DefinitionError](err)
	if !ok || len(bad.Faults) != 20 || bad.More != 0 {
		t.Fatalf("%v", err)
	}
	for _, f := range bad.Faults {
		if len(f.Message) > 1000 {
			t.Errorf("%d bytes: %s", len(f.Message), f.Message)
		}
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 32*uint64(len(text)) {
		t.Errorf("%d bytes for %d", used, len(text))
	}
}

func TestCycles_NameFewSteps(t *testing.T) {
	t.Parallel()
	var steps []string
	for i := range 30 {
		steps = append(steps, fmt.Sprintf(`"%02d": {"agent_name": "g", "depends_on": ["%02d"]}`, i, (i+1)%30))
	}
	_, err := workflow.ParseDefinition([]byte(`{"workflow_id": "w", "steps": {`+strings.Join(steps, ",")+`}}`), nil)
	if want := "00 -> 01 -> 02 -> 03 -> 04 -> 05 -> 06 -> 07 -> 08 -> 09 -> … -> 00"; err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
		t.Errorf("%v", err)
	}
}

func TestParseDefinition_ParsesAReferenceOnce(t *testing.T) { //nolint:paralleltest // see above
	refs := make([]string, 800)
	for i := range refs {
		refs[i] = fmt.Sprintf(`"$.input.n%d%s"`, i, strings.Repeat(".a", 500))
	}
	text := mapped("[" + strings.Join(refs, ",") + "]")
	d := parsed(t, text)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := d.CheckInput(nil)
	runtime.ReadMemStats(&after)
	if missing, ok := errors.AsType[*workflow.InputError](err); !ok || len(missing.Missing) != 20 || missing.More != 780 {
		t.Errorf("%v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(text))/2 {
		t.Errorf("%d bytes to check a definition of %d", used, len(text))
	}
}
