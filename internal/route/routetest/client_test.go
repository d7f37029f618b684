package routetest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func TestClient_NoticesAnswersThatTheDocumentLacks(t *testing.T) {
	t.Parallel()
	api := route.New("test", "1", "A test.", nil)
	api.Health(route.HealthOptions{Health: func(context.Context, time.Duration) health.Report { return health.Report{} }})
	c := routetest.Client{TB: t, Doc: api.OpenAPI}
	op := c.Operations()["live"]
	for what, g := range map[string]routetest.Got{
		"status": {Status: 418}, "media type": {Status: 200, Text: "ok", Header: http.Header{"Content-Type": {"text/plain"}}},
		"field":   {Status: 200, Text: `{"status":"ok","x":1}`, Header: http.Header{"Content-Type": {"application/json"}}},
		"value":   {Status: 200, Text: `{"status":"so so"}`, Header: http.Header{"Content-Type": {"application/json"}}},
		"no body": {Status: 200},
	} {
		recorder := &recorder{TB: t}
		g.TB = recorder
		if c.AsDocumented(op, g); !recorder.failed {
			t.Errorf("%s: not noticed", what)
		}
	}
}

// recorder remembers that a test would have failed.
type recorder struct {
	testing.TB

	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
