package guard

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

// serve sends one request through guards, before a handler that answers 200.
func serve(r *http.Request, guards ...Guard) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	Chain(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), guards...).ServeHTTP(w, r)
	return w
}

func TestLoopback_LetsInLoopbackNamesOnly(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]int{
		"localhost:18180": 200, "LOCALHOST": 200, "127.0.0.1:18180": 200, "127.8.9.1": 200, "[::1]:18180": 200, "[::1]": 200, "::1": 200,
		"": 200, "evil.example:18180": 421, "10.0.0.1:18180": 421, "localhost.evil.example": 421, "0.0.0.0:18180": 421, "[::]:1": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := serve(r, Loopback)
		if w.Code != want || want == 421 && w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %v", host, w.Code, w.Header())
		}
	}
}

func TestSameOrigin_RefusesChangesByOtherSites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, header, value string
		plain, upgrades       int
	}{
		{"GET", "Sec-Fetch-Site", "cross-site", 200, 200},
		{"POST", "Sec-Fetch-Site", "cross-site", 403, 403},
		{"POST", "Sec-Fetch-Site", "same-origin", 200, 200},
		{"POST", "Origin", "https://evil.example", 403, 403},
		{"POST", "Origin", "http://example.com", 200, 200},
		{"GET", "Origin", "https://evil.example", 200, 200},
		{"POST", "X-None", "", 200, 200},
	} {
		r := httptest.NewRequest(c.method, "http://example.com/", nil)
		r.Header.Set(c.header, c.value)
		if got := serve(r, SameOrigin).Code; got != c.plain {
			t.Errorf("%v: %d", c, got)
		}
		if got := serve(r, SameOriginUpgrades).Code; got != c.upgrades {
			t.Errorf("%v with upgrades: %d", c, got)
		}
		r.Header.Set("Upgrade", "websocket")
		foreign := c.value == "cross-site" || strings.Contains(c.value, "evil")
		if got := serve(r, SameOriginUpgrades).Code; (got == 403) != foreign {
			t.Errorf("%v of a WebSocket: %d", c, got)
		}
	}
}

func TestPaths_RefusesWhatAMuxWouldClean(t *testing.T) {
	t.Parallel()
	named := Named{Prefix: "/v1/things/", Valid: func(s string) bool { return s == "a" || s == "b" }, Refuse: func() *problem.Problem {
		return problem.New(problem.InvalidAgentName, "bad")
	}}
	for path, want := range map[string]int{
		"/": 200, "/v1": 200, "/v1/": 200, "/v1/things": 200, "/v1/things/": 400, "/v1/things/a": 200, "/v1/things/c": 400, "/v1/things/%61": 200,
		"/v1/th%69ngs/c": 400, "/v1/things/a/verb": 200, "/v1/things/a/": 200, "/v1/things/a/..": 404, "/v1/things/a/%2e": 404, "/v1/things/a/x%2Fy": 404,
		"/v1/things/a/b/verb": 400, "/v1/things//verb": 400, "/v1/things/a%2Fb": 400, "/v1/things/a%00": 400, "//": 404, "/v1//x": 404, "/v1/./x": 404,
		"/v1/../x": 404, "/v1/%2e%2e/x": 404, "/v1%2Fthings": 404, "/x/": 200, "/x/%25": 200, "/v1/x%00": 404,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		var err error
		if r.URL, err = url.Parse("http://h" + path); err != nil {
			t.Fatal(err)
		}
		if got := serve(r, Paths(named)).Code; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	r := httptest.NewRequest(http.MethodConnect, "http://h/", nil)
	r.URL.Path = ""
	if got := serve(r, Paths(named)).Code; got != 404 {
		t.Errorf("no path: %d", got)
	}
}

func TestRecover_AnswersOrCutsTheConnection(t *testing.T) {
	t.Parallel()
	for _, begun := range []bool{false, true} {
		var log bytes.Buffer
		w := httptest.NewRecorder()
		h := Chain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if begun {
				_, _ = w.Write([]byte("begun"))
			}
			panic("late")
		}), Recover(slog.New(slog.NewTextHandler(&log, nil))))
		var cut any
		func() {
			defer func() { cut = recover() }()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/a%0ab", nil))
		}()
		if err, _ := cut.(error); begun != errors.Is(err, http.ErrAbortHandler) || !begun && (w.Code != 500 || w.Header().Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("begun %v: %d, panics with %v", begun, w.Code, cut)
		}
		if !strings.Contains(log.String(), "panic=late") || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("log: %s", &log)
		}
	}
}

func TestRecover_LetsAnAbortPass(t *testing.T) {
	t.Parallel()
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("panics with %v", err)
		}
	}()
	Chain(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), Recover(slog.New(slog.DiscardHandler))).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
}

// timed is a writer that tells of its deadlines.
type timed struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (d *timed) SetReadDeadline(at time.Time) error  { d.read = append(d.read, at); return nil }
func (d *timed) SetWriteDeadline(at time.Time) error { d.write = append(d.write, at); return nil }

func TestDeadlines_CountFromNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		h := Chain(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Recover(slog.New(slog.DiscardHandler)), Deadlines(time.Second, time.Minute))
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		now := time.Now()
		if !slices.Equal(w.read, []time.Time{now.Add(time.Second)}) || !slices.Equal(w.write, []time.Time{now.Add(time.Minute)}) {
			t.Errorf("to read %v, to write %v", w.read, w.write)
		}
	})
}
