package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// reply is one answer of the API.
type reply struct {
	t      testing.TB
	what   string // the request, for messages
	status int
	header http.Header
	body   []byte
}

// try sends one request. Any goroutine may call it. header is name, value, name, value….
func (d *daemon) try(method, path, body string, header ...string) (reply, error) {
	r := reply{t: d.t, what: method + " " + path}
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.addr+path, strings.NewReader(body))
	if err != nil {
		return r, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 1; i < len(header); i += 2 {
		req.Header.Set(header[i-1], header[i])
	}
	res, err := d.client.Do(req)
	if err != nil {
		return r, err
	}
	defer func() { _ = res.Body.Close() }()
	r.status, r.header = res.StatusCode, res.Header
	r.body, err = io.ReadAll(res.Body)
	return r, err
}

// call is try for the test's own goroutine.
func (d *daemon) call(method, path, body string, header ...string) reply {
	d.t.Helper()
	r, err := d.try(method, path, body, header...)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// want stops the test at another status.
func (r reply) want(status int) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.what, r.status, status, r.body)
	}
	return r
}

// get returns the value at a path such as policy.failure_threshold.value; nil if there is none.
func (r reply) get(path string) any {
	r.t.Helper()
	var v any
	if err := json.Unmarshal(r.body, &v); err != nil {
		r.t.Errorf("%s: body is no JSON (%v): %s", r.what, err, r.body)
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (r reply) text(path string) string {
	r.t.Helper()
	s, _ := r.get(path).(string)
	return s
}

// has wants this value at a path. Numbers are float64.
func (r reply) has(path string, want any) reply {
	r.t.Helper()
	if got := r.get(path); got != want {
		r.t.Errorf("%s: %s is %v, want %v: %s", r.what, path, got, want, r.body)
	}
	return r
}

// refused wants a refusal with this state and reason.
func (r reply) refused(state, reason string) reply {
	r.t.Helper()
	r.want(http.StatusTooManyRequests).has("code", "circuit_breaker_open").has("reason", reason)
	if got := r.header.Get("X-Circuit-Breaker-State"); got != state {
		r.t.Errorf("%s: x-circuit-breaker-state %q, want %q", r.what, got, state)
	}
	if r.header.Get("Retry-After") == "" {
		r.t.Errorf("%s: no retry-after", r.what)
	}
	return r
}

const (
	dataPath  = "/v1/circuit_breakers/"
	adminPath = "/v1/admin/circuit_breakers/"
)

func (d *daemon) acquire(agent string) reply {
	d.t.Helper()
	return d.call(http.MethodPost, dataPath+agent+"/acquire", "")
}

func (d *daemon) report(agent, permit, outcome string) reply {
	d.t.Helper()
	return d.call(http.MethodPost, dataPath+agent+"/report", reportBody(permit, outcome))
}

func reportBody(permit, outcome string) string {
	return `{"permit":"` + permit + `","outcome":"` + outcome + `"}`
}

// run makes n calls with this outcome. Each must be admitted and counted.
func (d *daemon) run(agent, outcome string, n int) {
	d.t.Helper()
	for range n {
		permit := d.acquire(agent).want(http.StatusOK).text("permit")
		d.report(agent, permit, outcome).want(http.StatusOK).has("counted", true)
	}
}

// show is the operator's view of one breaker.
func (d *daemon) show(agent string) reply {
	d.t.Helper()
	return d.call(http.MethodGet, adminPath+agent, "").want(http.StatusOK)
}

func (d *daemon) reset(agent, target string) {
	d.t.Helper()
	d.call(http.MethodPost, adminPath+agent+"/reset", `{"target_state":"`+target+`","reason":"test"}`).want(http.StatusOK).has("state", target)
}

// override sets the agent's override, of which there must be none yet.
func (d *daemon) override(agent, policy string) {
	d.t.Helper()
	d.call(http.MethodPut, adminPath+agent+"/config", policy).want(http.StatusCreated)
}

// redisCLI runs the real redis-cli, as an operator would.
func redisCLI(t testing.TB, s *testkit.Server, args ...string) string {
	t.Helper()
	need(t, "redis-cli")
	host, port, _ := strings.Cut(s.Addr, ":")
	cmd := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-h", host, "-p", port}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}
