//go:build nightly

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// composeLimit is the bridge's mem_limit in a compose file, in bytes.
func composeLimit(t testing.TB, file string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?ms)^  bridge:\n.*?^    mem_limit: (\d+)m$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s gives the bridge no mem_limit", file)
	}
	n, _ := strconv.ParseInt(string(found[1]), 10, 64)
	return n << 20
}

// heavy is an agent whose answers are as its paths say.
func heavy(t testing.TB) http.Handler {
	t.Helper()
	eight := []byte(`{"a":"` + strings.Repeat("x", 8_000_000-8) + `"}`)
	controls := bytes.Repeat([]byte{1}, 8_000_000) // as a JSON string it has six times as much
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.WriteString(z, `{"jsonrpc":"2.0","id":1,"result":"`)
	for range 200 {
		_, _ = z.Write(bytes.Repeat([]byte("x"), 1<<20))
	}
	_, _ = io.WriteString(z, `"}`)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/8MB":
			_, _ = w.Write(eight)
		case "/controls":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write(controls)
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(eight)
		default:
			_, _ = io.WriteString(w, `{"ok":true}`)
		}
	})
}

// attacked is a bridge, without the race detector, under the memory limit of the compose files.
type attacked struct {
	*daemon
	group  *cgroup
	client *http.Client
}

func newAttacked(t *testing.T) *attacked {
	t.Helper()
	limit := composeLimit(t, "docker-compose.yml")
	if prod := composeLimit(t, "docker-compose.prod.yml"); prod != limit {
		t.Errorf("the bridge has %d bytes, in production %d", limit, prod)
	}
	a := &attacked{group: newCgroup(t, limit)}
	dir := t.TempDir()
	if err := build(dir, "-trimpath", bridge); err != nil {
		t.Fatal(err)
	}
	agent := httptest.NewServer(heavy(t))
	t.Cleanup(agent.Close)
	var agents []string
	for name, path := range map[string]string{"Heavy": "/8MB", "Controls": "/controls", "Bomb": "/bomb", "Fails": "/500", "Light": "/"} {
		agents = append(agents, fmt.Sprintf(`{"name":%q,"url":%q,"classify":"auto","circuit_breaker_config":{"enabled":false}}`, name, agent.URL+path))
	}
	agents = append(agents, `{"name":"Open","url":"`+agent.URL+`","circuit_breaker_config":{"failure_threshold":1}}`)
	file := filepath.Join(dir, "agents.json")
	if err := os.WriteFile(file, []byte("["+strings.Join(agents, ",")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.daemon = bridge.launchBinary(t, a.group.run(filepath.Join(dir, "bridge")),
		"REDIS_URL="+testkit.Start(t).URL(), "AGENTS_FILE="+file, "WORKFLOW_PARALLEL_EXECUTIONS=64")
	a.awaitListening()
	a.awaitText(`"msg":"memory is limited"`, fmt.Sprintf(`"gomemlimit_bytes":%d`, int64(float64(limit)*0.9)))
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	a.client = &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	return a
}

// workflow makes a workflow of n parallel steps, with more fields.
func (a *attacked) workflow(id, agent string, n int, fields string) {
	a.t.Helper()
	var steps []string
	for i := range n {
		steps = append(steps, fmt.Sprintf(`"s%d":{"agent_name":%q%s}`, i, agent, fields))
	}
	body := `{"workflow_id":"` + id + `","steps":{` + strings.Join(steps, ",") + `}}`
	if r := a.call("POST", "/api/v1/workflows", body); r.status != 201 {
		a.t.Fatalf("%d %s", r.status, r.body)
	}
}

// answers are how many calls had which status and code.
type answers struct {
	sync.Mutex
	of map[string]int
}

// times calls many times at once, and counts the answers. A problem is small.
func (a *attacked) times(n int, method, path string, body func() io.Reader) map[string]int {
	a.t.Helper()
	all := answers{of: map[string]int{}}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			what := a.once(method, path, body())
			all.Lock()
			defer all.Unlock()
			all.of[what]++
		})
	}
	wg.Wait()
	if !a.Running() {
		a.t.Fatalf("%s %s: the kernel has ended the bridge: %v", method, path, all.of)
	}
	a.t.Logf("%s %s, %d at once: %v; %d MiB at most so far", method, path, n, all.of, a.group.most()>>20)
	return all.of
}

func (a *attacked) once(method, path string, body io.Reader) string {
	req, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.addr+path, body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return "no answer"
	}
	defer res.Body.Close()
	var head bytes.Buffer
	read, err := io.Copy(io.Discard, io.TeeReader(io.LimitReader(res.Body, 64<<10), &head))
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, res.Body)
		read += rest
	}
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(head.Bytes(), &problem)
	switch {
	case err != nil:
		return "broken off"
	case problem.Code != "" && read > 32<<10:
		return fmt.Sprintf("a problem of %d bytes", read)
	}
	return strings.TrimSpace(strconv.Itoa(res.StatusCode) + " " + problem.Code)
}

// only fails the test if there was another answer.
func (a *attacked) only(got map[string]int, allowed ...string) {
	a.t.Helper()
	for what, n := range got {
		if !strings.Contains(" "+strings.Join(allowed, ", ")+", ", " "+what+", ") {
			a.t.Errorf("%d times %s; want only %q", n, what, allowed)
		}
	}
}

func nothing() io.Reader { return http.NoBody }

// H4: what took the bridge down, and others of its kind, one after the other on the same process.
func TestMemory_BridgeSurvivesUnderComposesLimit(t *testing.T) {
	t.Parallel()
	a := newAttacked(t)
	const execute = "/api/v1/workflows/%s/execute"
	run := func(n int, id string, body func() io.Reader) map[string]int {
		t.Helper()
		return a.times(n, "POST", fmt.Sprintf(execute, id), body)
	}
	a.workflow("light", "Light", 1, "")
	a.workflow("one", "Heavy", 1, "")
	a.workflow("eight", "Heavy", 8, "")
	a.workflow("controls", "Controls", 4, "")
	a.workflow("bomb", "Bomb", 8, "")
	a.workflow("fails", "Fails", 8, `,"on_failure":"continue"`)
	a.workflow("wide", "Light", 8, `,"input_mapping":{"x":"$.input","y":"$.input"}`)
	const memory, stopped, many = "503 workflow_memory", "502 agent_failed", "503 too_many_executions"

	for _, n := range []int{1, 2, 40, 40} {
		a.only(run(n, "eight", nothing), memory, stopped, many)
	}
	a.only(run(40, "one", nothing), "200", memory, many)
	a.only(run(40, "controls", nothing), stopped, memory, many)
	a.only(run(40, "bomb", nothing), "200", stopped, memory, many)
	if got := run(40, "fails", nothing); got["200"] == 0 {
		t.Errorf("an agent's large errors need no memory: %v", got)
	}
	// A megabyte of values, which decoded takes fifty.
	values := `{"input":{"x":[` + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 125_000), ",") + `]}}`
	a.only(run(40, "wide", func() io.Reader { return strings.NewReader(values) }), "200", memory, many)
	words := `{"input":{"x":"` + strings.Repeat("x", 1_000_000) + `"}}`
	a.only(run(40, "wide", func() io.Reader { return strings.NewReader(words) }), "200", memory, many)

	a.uploads()
	a.only(a.times(40, "POST", "/agents/Bomb/x", func() io.Reader { return strings.NewReader("{}") }), "200")
	if r := a.call("POST", "/api/v1/agents", `{"name":"Loop","url":"http://`+a.addr+`/agents/Loop"}`); r.status != 201 { // H3
		t.Fatalf("%d %s", r.status, r.body)
	}
	a.only(a.times(40, "GET", "/agents/Loop/x", nothing), "508 loop_detected")
	a.workflow("loop", "Loop", 8, `,"input_mapping":{"x":"$.input"}`)
	a.only(run(40, "loop", func() io.Reader { return strings.NewReader(words) }), stopped, memory, many, "508 loop_detected")
	a.unread()

	testkit.Eventually(t, "a light execution", startTimeout, func() error {
		if got := run(1, "light", nothing); got["200"] != 1 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if got := run(1, "one", nothing); got["200"] != 1 {
		t.Errorf("the budget is not whole: %v", got)
	}
	t.Logf("at most %d MiB", a.group.most()>>20)
}

// uploads sends 30 MB each to an agent whose breaker is open.
func (a *attacked) uploads() {
	a.t.Helper()
	if r := a.call("GET", "/agents/Open/500", ""); r.status != 500 {
		a.t.Fatalf("%d %s", r.status, r.body)
	}
	got := a.times(40, "POST", "/agents/Open/x", func() io.Reader { return io.LimitReader(blanks{}, 30<<20) })
	a.only(got, "429 circuit_breaker_open", "no answer", "broken off")
	if got["429 circuit_breaker_open"] == 0 {
		a.t.Errorf("nobody read the refusal: %v", got)
	}
}

type blanks struct{}

func (blanks) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// unread asks for large executions and reads none of them.
func (a *attacked) unread() {
	a.t.Helper()
	var conns []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", a.addr)
		if err != nil {
			a.t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /api/v1/workflows/one/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
			a.t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns { // the beginning of each answer
		_ = conn.SetReadDeadline(time.Now().Add(startTimeout))
		if _, err := conn.Read(make([]byte, 100)); err != nil && !errors.Is(err, io.EOF) {
			a.t.Error(err)
		}
	}
	if r := a.call("GET", "/livez", ""); r.status != 200 || !a.Running() {
		a.t.Errorf("%d %s", r.status, r.body)
	}
}
