package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/breakerd/breakerd/internal/workflow"
)

// without is a Known for which all agents are registered but one.
func without(agent string) func(context.Context, []string) ([]string, error) {
	return func(_ context.Context, named []string) ([]string, error) {
		if slices.Contains(named, agent) {
			return []string{agent}, nil
		}
		return nil, nil
	}
}

func TestKnown_IsAskedOnceForAllAgents(t *testing.T) {
	t.Parallel()
	var asked []string
	var trouble error
	lib := apiLibrary(t, newTexts(), workflow.LibraryOptions{Known: func(ctx context.Context, agents []string) ([]string, error) {
		asked = append(asked, fmt.Sprint(ctx.Value(ctxKey{}), agents))
		return []string{"ghost"}, trouble
	}})
	asked = nil
	ctx := context.WithValue(t.Context(), ctxKey{}, "caller's")
	const text = `{"workflow_id": "w", "steps": {"a": {"agent_name": "x"}, "b": {"agent_name": "ghost"}, "c": {"agent_name": "x"}, "d": {"agent_name": "ghost"}}}`
	_, _, err := lib.Put(ctx, []byte(text))
	if want := "steps.b.agent_name: unknown agent \"ghost\"\nsteps.d.agent_name: unknown agent \"ghost\""; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if len(asked) != 1 || asked[0] != "caller's[ghost x]" {
		t.Errorf("asked %q", asked)
	}
	trouble = errors.New("nobody can tell")
	if _, _, err := lib.Put(ctx, []byte(text)); err != nil {
		t.Errorf("where nobody can tell: %v", err)
	}
}

type ctxKey struct{}

// Another replica may have deleted an agent; that must not keep this one from starting.
func TestNewLibrary_UnknownAgentInAFileIsNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		missing, asked, trouble := []string{"agent"}, 0, error(nil)
		known := func(context.Context, []string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return missing, trouble
		}
		f := newFolder(t, map[string]string{"a.json": simple("a", "one"), "b.json": simple("b", "one")})
		r := run(t, f, newTexts(), known)
		r.want("")
		r.problem("a.json:1: steps.a.agent_name: unknown agent \"agent\"\nb.json:1: steps.a.agent_name: unknown agent \"agent\"", 2)
		mu.Lock()
		asked, trouble = 0, errors.New("down")
		mu.Unlock()
		r.poll()
		r.want("a=one b=one") // it is not known whether they are registered
		if asked != 1 {
			t.Errorf("asked %d times for two files, of a registry that is down", asked)
		}
		r.problem("", 2)
		for _, bad := range []string{"{", `{"workflow_id": "c", "steps": {"a": {"agent_name": "agent", "depends_on": ["a"]}}}`} {
			f.write("c.json", bad)
			_, err := workflow.NewLibrary(workflow.LibraryOptions{Dir: f.path, Texts: newTexts(), Known: known, Logger: discard()})
			if err == nil || !strings.Contains(err.Error(), "c.json") {
				t.Errorf("%s: %v, want an error", bad, err)
			}
		}
	})
}
