package workflow_test

import (
	"errors"
	"testing"

	"github.com/breakerd/breakerd/internal/workflow"
)

// FuzzDefinition: a bad definition has printable faults; a good one survives a round trip and can be executed.
func FuzzDefinition(f *testing.F) {
	f.Add(guide)
	f.Add(full)
	f.Add(tolerant)
	for _, c := range badDefinitions() {
		if len(c.text) < 2000 {
			f.Add(c.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := workflow.ParseDefinition([]byte(text), nil)
		if err != nil {
			var bad *workflow.DefinitionError
			if !errors.As(err, &bad) || len(bad.Faults) == 0 || len(bad.Faults) > 20 || len(err.Error()) > 100_000 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		written := asJSON(t, d)
		if again := asJSON(t, parsed(t, written)); again != written {
			t.Errorf("%q is written %s and read back %s", text, written, again)
		}
		x := engine(echoUnlessDown).Execute(t.Context(), d, map[string]any{"a": []any{map[string]any{"b": "c"}}})
		ran := 0
		for _, s := range x.Steps {
			if s.Status != workflow.Skipped {
				ran++
			}
		}
		switch {
		case len(x.Steps) != len(d.Steps):
			t.Errorf("%q: %d steps of %d", text, len(x.Steps), len(d.Steps))
		case x.Status == workflow.Completed:
			if ran != len(d.Steps) || len(x.Output) == 0 && len(x.FailedSteps) == 0 {
				t.Errorf("%q: completed with %d steps of %d, output %s", text, ran, len(d.Steps), x.Output)
			}
		case d.Steps[x.Error.Step].OnFailure == workflow.ContinueExecution && x.Error.Cause != workflow.CauseBadOutput:
			t.Errorf("%q: %s stopped it: %+v", text, x.Error.Step, x.Error)
		case x.Error.Cause == "down", x.Error.Cause == workflow.CauseInputMissing && ran == 0, x.Error.Cause == workflow.CauseReference,
			x.Error.Cause == workflow.CauseInputTooLarge, x.Error.Cause == workflow.CauseBadOutput:
		default:
			t.Errorf("%q: %s %+v", text, x.Status, x.Error)
		}
	})
}
