package workflow_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/workflow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// callerFunc is a Caller.
type callerFunc func(ctx context.Context, c workflow.Call) (json.RawMessage, error)

func (f callerFunc) Call(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
	return f(ctx, c)
}

// echo answers with its input.
func echo(_ context.Context, c workflow.Call) (json.RawMessage, error) { return c.Input, nil }

func engine(f callerFunc) *workflow.Engine {
	return workflow.NewEngine(workflow.EngineOptions{Caller: f, Logger: discard()})
}

// parsed returns a good definition.
func parsed(t testing.TB, text string) workflow.Definition {
	t.Helper()
	d, err := workflow.ParseDefinition([]byte(text), nil)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return d
}

// object decodes an object as the API does.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	v, err := workflow.DecodeNumbers(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// asJSON encodes a value.
func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
