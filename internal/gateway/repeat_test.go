package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// fickle answers the first request of each connection with its body, and closes the connection at the next one.
func fickle() http.HandlerFunc {
	var seen sync.Map
	return func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if _, before := seen.LoadOrStore(r.RemoteAddr, true); before {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(text)
	}
}

// caddy 6452, golang 22158.
func TestRepeat_StaleConnectionsAreNoFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, body string
		header       []string
		status       int
	}{
		"POST":            {"POST", "text", nil, 502},
		"POST with a key": {"POST", "text", []string{"Idempotency-Key", "k"}, 200},
		"PUT":             {"PUT", "text", nil, 200},
		"DELETE":          {"DELETE", "", nil, 200},
		"GET":             {"GET", "", nil, 200},
		"a large PUT":     {"PUT", strings.Repeat("x", 70<<10), nil, 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, fickle())
			for range 10 {
				f.do(http.MethodGet, "/agents/Agent/first", "") // leaves a connection, unless it took one that was left
				got := f.do(c.method, "/agents/Agent/x", c.body, c.header...)
				if got.StatusCode != c.status || c.status == 200 && got.text != c.body {
					t.Fatalf("%s %q", got.Status, got.text)
				}
			}
			if state, failures, _ := f.counted("Agent"); state != breaker.Closed || failures != 0 {
				t.Errorf("%s, %d failures", state, failures)
			}
		})
	}
}
