package daemon

import (
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoom_IsWhatTheLimitOfOpenFilesLeaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files    uint64
		callsOut bool
		in, out  int
	}{
		{256, false, 192, 0},
		{256, true, 96, 96},
		{1024, false, 768, 0},
		{10, true, 8, 8},
		{math.MaxUint64, false, 3 << 18, 0}, // RLIM_INFINITY
	} {
		if in, out := room(c.files, c.callsOut); in != c.in || out != c.out {
			t.Errorf("%d files, calls out %v: %d in, %d out, want %d and %d", c.files, c.callsOut, in, out, c.in, c.out)
		}
	}
}

func TestConnections_BoundRequestsUnderWay(t *testing.T) {
	t.Parallel()
	all := newConnections(slog.New(slog.DiscardHandler), 10, 2)
	var refused []string
	all.count = func(reason string) { refused = append(refused, reason) }
	began, release := make(chan struct{}), make(chan struct{})
	h := all.serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			began <- struct{}{}
			<-release
		}
	}))
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		return w
	}
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() { ask("/hold") })
		<-began
	}
	w := ask("/any")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"code":"overloaded"`) {
		t.Errorf("a third one: %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/livez", "/readyz", "/health", "/health/checks", "/metrics"} {
		if w := ask(path); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	close(release)
	held.Wait()
	if w := ask("/any"); w.Code != http.StatusOK || !slices.Equal(refused, []string{"overloaded"}) {
		t.Errorf("after they have ended: %d; refused %q", w.Code, refused)
	}
}

func TestPace_CountsWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pace
		if first, second := p.due(time.Now()), p.due(time.Now()); first != 1 || second != 0 {
			t.Errorf("%d, then %d", first, second)
		}
		time.Sleep(pause)
		if third := p.due(time.Now()); third != 2 {
			t.Errorf("after a pause: %d", third)
		}
	})
}
