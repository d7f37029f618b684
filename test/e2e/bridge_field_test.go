package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

// The tests of bridge_field_*_test.go replay what users of other gateways and breakers reported: each names the
// repository and the number of the report.

// fieldAgent is one agent of a registry.
type fieldAgent struct {
	name   string
	serve  http.HandlerFunc // at any path; nil: url counts
	url    string
	fields string // further fields of its entry, as `"classify":"mcp","timeout_seconds":1`
	policy string // fields of its circuit_breaker_config, as `"abandoned_seconds":0.3`
}

func (a fieldAgent) entry(server string) string {
	if a.serve != nil {
		a.url = server + "/" + a.name
	}
	fields := []string{fmt.Sprintf(`"name":%q,"url":%q`, a.name, a.url), `"circuit_breaker_config":{` + a.policy + `}`}
	if a.fields != "" {
		fields = append(fields, a.fields)
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// field is a bridge in front of several agents. It logs each call that it made.
type field struct {
	*daemon

	server *httptest.Server // of the agents that are the test's handlers
	store  *redis.Client
}

// inFront starts the agents and a bridge in front of them.
func inFront(t testing.TB, env []string, agents ...fieldAgent) *field {
	t.Helper()
	mux := http.NewServeMux()
	for _, a := range agents {
		if a.serve != nil {
			h := http.StripPrefix("/"+a.name, a.serve)
			mux.Handle("/"+a.name+"/", h)
			mux.Handle("/"+a.name, h) // else the mux redirects
		}
	}
	f := &field{server: httptest.NewUnstartedServer(mux)}
	f.server.Config.Protocols = new(http.Protocols)
	f.server.Config.Protocols.SetHTTP1(true)
	f.server.Config.Protocols.SetUnencryptedHTTP2(true)
	f.server.Start()
	t.Cleanup(f.server.CloseClientConnections) // before Close, which waits for calls that hang
	t.Cleanup(func() { go f.server.CloseClientConnections(); f.server.Close() })
	entries := make([]string, len(agents))
	for i, a := range agents {
		entries[i] = a.entry(f.server.URL)
	}
	file := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(file, []byte("["+strings.Join(entries, ",\n")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := testkit.Start(t)
	f.store = s.Client(t)
	f.daemon = bridge.start(t, append([]string{"REDIS_URL=" + s.URL(), "AGENTS_FILE=" + file, "LOG_LEVEL=debug"}, env...)...)
	return f
}

// at is the address of an agent through bridge.
func (f *field) at(agent, path string) string { return "http://" + f.addr + "/agents/" + agent + path }

// post calls an agent with a small body.
func (f *field) post(agent, path string) reply {
	f.t.Helper()
	return f.call(http.MethodPost, "/agents/"+agent+path, `{"a":1}`)
}

// state is that of an agent's breaker.
func (f *field) state(agent string) string {
	f.t.Helper()
	s, _ := f.breakerOf(agent, "state").(string)
	return s
}

func (f *field) awaitState(agent, want string) {
	f.t.Helper()
	testkit.Eventually(f.t, agent+" to be "+want, endTimeout, func() error {
		if got := f.state(agent); got != want {
			return fmt.Errorf("it is %s, after the calls %q", got, f.ended(agent))
		}
		return nil
	})
}

// wantState is for a breaker that nothing can change any more.
func (f *field) wantState(agent, want string) {
	f.t.Helper()
	if got := f.state(agent); got != want {
		f.t.Errorf("%s is %s, want %s, after the calls %q", agent, got, want, f.ended(agent))
	}
}

// halfOpen begins a round of probes, as an operator does who edits the key.
func (f *field) halfOpen(agent string) {
	f.t.Helper()
	if err := f.store.Set(f.t.Context(), "circuit_breaker:"+agent+":state", "half_open", 0).Err(); err != nil {
		f.t.Fatal(err)
	}
	f.wantState(agent, "HALF_OPEN")
}

// ended returns how the calls of an agent ended, as "failure timeout" or "success", in the order of their ends.
func (f *field) ended(agent string) (outcomes []string) {
	f.t.Helper()
	for _, text := range f.allLogged(`"msg":"agent called"`, `"agent":"`+agent+`"`) {
		var line struct {
			Outcome string `json:"outcome"`
			Class   string `json:"class"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			f.t.Fatal(err)
		}
		outcomes = append(outcomes, strings.TrimSpace(line.Outcome+" "+line.Class))
	}
	return outcomes
}

// awaitEnded waits until n calls of an agent have ended, and wants all of them to have ended like this. want without a
// class stands for any class.
func (f *field) awaitEnded(agent string, n int, want string) {
	f.t.Helper()
	var got []string
	testkit.Eventually(f.t, "the calls of "+agent+" to end", endTimeout, func() error {
		if got = f.ended(agent); len(got) < n {
			return fmt.Errorf("%d of %d have: %q", len(got), n, got)
		}
		return nil
	})
	other := slices.ContainsFunc(got, func(o string) bool { return o != want && !strings.HasPrefix(o, want+" ") })
	if len(got) != n || other {
		f.t.Errorf("%s: the calls ended as %q, want %d times %q", agent, got, n, want)
	}
}

// stream is an answer that goes on.
type stream struct {
	t      testing.TB
	cancel context.CancelFunc
	res    *http.Response
}

// open POSTs to an agent and returns when its header has come. The call ends with the test, or by leave.
func (f *field) open(agent, path string) *stream {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	f.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.at(agent, path), strings.NewReader(`{}`))
	if err != nil {
		f.t.Fatal(err)
	}
	res, err := f.client.Transport.RoundTrip(req) //nolint:bodyclose // leave closes it; without the client's time-out
	if err != nil {
		f.t.Fatal(err)
	}
	s := &stream{f.t, cancel, res}
	f.t.Cleanup(s.leave)
	return s
}

// want reads the next bytes of the body.
func (s *stream) want(text string) {
	s.t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s.res.Body, got); err != nil || string(got) != text {
		s.t.Fatalf("status %d: the stream has %q, %v, want %q", s.res.StatusCode, got, err, text)
	}
}

// leave ends the call as its caller.
func (s *stream) leave() {
	s.cancel()
	_ = s.res.Body.Close()
}

// leave makes n calls of an agent, which leave once the agent has all of them and wait has returned. A nil wait is none.
func (f *field) leave(agent string, n int, body string, arrived <-chan struct{}, wait func(), header ...string) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	done := make(chan error, n)
	for range n {
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.at(agent, "/run"), strings.NewReader(body))
			if err == nil {
				for i := 1; i < len(header); i += 2 {
					req.Header.Set(header[i-1], header[i])
				}
				var res *http.Response
				if res, err = f.client.Do(req); err == nil {
					_ = res.Body.Close()
					err = fmt.Errorf("%s answered %s", agent, res.Status)
				}
			}
			done <- err
		}()
	}
	for range n {
		select {
		case <-arrived:
		case err := <-done:
			f.t.Fatal(err)
		case <-time.After(endTimeout):
			f.t.Fatalf("%s was not called", agent)
		}
	}
	if wait != nil {
		wait()
	}
	cancel()
	for range n {
		if err := <-done; !errors.Is(err, context.Canceled) {
			f.t.Fatal(err)
		}
	}
}

// flush sends parts of an answer at once, each by itself.
func flush(w http.ResponseWriter, parts ...string) {
	for _, part := range parts {
		_, _ = io.WriteString(w, part)
		_ = http.NewResponseController(w).Flush()
	}
}

// answer is an agent that gives one answer.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 1; i < len(header); i += 2 {
			w.Header().Add(header[i-1], header[i])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// answerJSON is answer for a 200 of application/json.
func answerJSON(body string) http.HandlerFunc {
	return answer(http.StatusOK, body, "Content-Type", "application/json")
}

// hangs is an agent that takes calls and answers none of them.
func hangs(arrived chan<- struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does net/http notice that a client of HTTP/1.1 leaves
		arrived <- struct{}{}
		<-r.Context().Done()
	}
}
