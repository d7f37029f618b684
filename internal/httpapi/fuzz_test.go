package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/route/routetest"
)

// serveBody answers one POST without a network.
func serveBody(h http.Handler, path, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	res := httptest.NewRecorder()
	h.ServeHTTP(res, req)
	return res
}

func FuzzReportBody(f *testing.F) {
	for _, bodies := range routetest.BadBodies() {
		for _, b := range bodies {
			if len(b) < 1000 {
				f.Add(b)
			}
		}
	}
	f.Add(`{"outcome":"failure","duration_ms":1.5,"retry_after_seconds":2,"reporter":"r","error":"e"}`)
	fx := newFixture(f)
	f.Fuzz(func(t *testing.T, body string) {
		res := serveBody(fx.handler, "/v1/circuit_breakers/a/report", body)
		if res.Code != http.StatusOK && (res.Code < 400 || res.Code > 499 || !strings.Contains(res.Body.String(), `"code":"`)) {
			t.Errorf("%q: %d %s", body, res.Code, res.Body)
		}
		if keys := fx.records.Keys(); len(keys) > 1 || fx.Log.String() != "" {
			t.Errorf("%q: wrote %q, logged %q", body, keys, fx.Log)
		}
	})
}

func FuzzPermitText(f *testing.F) {
	f.Add("v1.closed.0000000000000000.-.e40c292c")
	f.Add("v1.half_open.0123456789abcdef.0123456789abcdef.e40c292c")
	f.Add("v1.foreign.0000000000000000.-.00000000")
	fx := newFixture(f)
	f.Fuzz(func(t *testing.T, permit string) {
		p, err := fx.manager.Resume("a", permit)
		if err == nil && !strings.HasPrefix(p.String(), "v1.foreign.") && p.String() != permit {
			t.Errorf("%q is read as %q", permit, p)
		}
		body := `{"outcome":"failure","permit":` + quote(permit) + `}`
		if res := serveBody(fx.handler, "/v1/circuit_breakers/a/report", body); res.Code != 200 && res.Code != 422 {
			t.Errorf("%q: %d %s", permit, res.Code, res.Body)
		}
	})
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
