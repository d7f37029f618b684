package route_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/bridgeapi"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// documentOf is an API's own document.
func documentOf(t *testing.T, h http.Handler, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/openapi.json", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	return w.Body.String()
}

func TestDocuments_HaveEachCode(t *testing.T) {
	t.Parallel()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(func() int64 { return 0 }, 0)})
	if err != nil {
		t.Fatal(err)
	}
	options := route.HealthOptions{Health: func(context.Context, time.Duration) health.Report { return health.Report{} }}
	api, err := httpapi.New(httpapi.Options{
		Manager: m, Directory: struct{ httpapi.Directory }{}, Policies: struct{ httpapi.Policies }{}, HealthOptions: options,
		Fleet: struct{ httpapi.Fleet }{}, Keys: struct{ httpapi.Keys }{}, Backups: struct{ httpapi.Backups }{}, Events: struct{ events.Reader }{}, Listen: new(events.Hub).Listen,
	})
	documents := documentOf(t, api, err)
	bridge, err := bridgeapi.New(bridgeapi.Options{
		Manager: m, Agents: struct{ bridgeapi.Agents }{}, Workflows: struct{ bridgeapi.Workflows }{}, Executions: struct{ bridgeapi.Executions }{},
		Execute: func(context.Context, workflow.Definition, map[string]any) workflow.Execution {
			return workflow.Execution{}
		}, HealthOptions: options,
	})
	documents += documentOf(t, bridge, err)
	source, err := os.ReadFile("../problem/code.go")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []problem.Code{
		problem.NotFound, problem.MethodNotAllowed, problem.InvalidToken, problem.TooManyConnections,
		problem.Overloaded,
	}
	codes := regexp.MustCompile(`Code = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	for _, c := range codes {
		if !strings.Contains(documents, c[1]) && !slices.Contains(elsewhere, problem.Code(c[1])) {
			t.Errorf("code %s is in no document", c[1])
		}
	}
	if len(codes) < 40 {
		t.Errorf("only %d codes found", len(codes))
	}
}
