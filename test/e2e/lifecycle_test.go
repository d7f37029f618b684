package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// slowReport is a report whose body arrives late, so that the request is in flight for as long as the test wants.
type slowReport struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	body string
}

func beginReport(d *daemon, agent, permit string) *slowReport {
	d.t.Helper()
	conn, err := net.DialTimeout("tcp", d.addr, 5*time.Second)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	s := &slowReport{d.t, conn, bufio.NewReader(conn), reportBody(permit, "success")}
	_, err = fmt.Fprintf(conn, "POST %s%s/report HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", dataPath, agent, d.addr, len(s.body))
	if err != nil {
		d.t.Fatal(err)
	}
	// 100 Continue says that the handler is reading the body.
	head := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(s.in, head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 100 ") {
		d.t.Fatalf("no 100 Continue: %q, %v", head, err)
	}
	return s
}

// finish sends the body and returns the response.
func (s *slowReport) finish() reply {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, s.body); err != nil {
		s.t.Fatal(err)
	}
	res, err := http.ReadResponse(s.in, nil)
	if err != nil {
		s.t.Fatalf("the request in flight got no answer: %v", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{t: s.t, what: "report in flight", status: res.StatusCode, header: res.Header, body: body}
}

func TestDrain_SigtermEndsCallsAndLogsTheStats(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := testkit.Start(t)
		d := start(t, "REDIS_URL="+s.URL())
		d.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
		d.run("Worker", "success", 2)
		d.run("Broken", "failure", 5)
		slow := beginReport(d, "Worker", d.acquire("Worker").want(http.StatusOK).text("permit"))
		d.signal(sig)
		d.awaitText(`"msg":"stopping"`, sig.String())
		testkit.Eventually(t, "no new calls to be wanted", 5*time.Second, func() error {
			if r, err := d.try(http.MethodGet, "/readyz", ""); err == nil && r.status == http.StatusOK {
				return errors.New("/readyz says ready")
			}
			return nil
		})
		if !d.Running() {
			t.Fatal("breakerd ended with a request in flight")
		}
		slow.finish().want(http.StatusOK).has("counted", true)
		if code := d.ExitCode(); code != 0 {
			t.Errorf("%v: exit code %d", sig, code)
		}
		if beats := redisCLI(t, s, "ZRANGE", "circuit_breaker:replicas", "0", "-1"); beats != "" {
			t.Errorf("%v: the heartbeat of %s is left", sig, beats)
		}
		d.awaitText(`"msg":"stopped"`)
		checkStats(t, d, "Worker", map[string]any{"state": "closed", "total_successes": 3.0, "total_failures": 0.0, "failure_count": 0.0})
		checkStats(t, d, "Broken", map[string]any{"state": "open", "total_failures": 5.0, "failure_threshold": 5.0, "cooldown_seconds": 60.0, "state_transitions": 1.0})
	}
}

// checkStats wants the stats line of one agent with these values.
func checkStats(t *testing.T, d *daemon, agent string, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(d.awaitText(`"event":"circuit_breaker.stats"`, `"agent":"`+agent+`"`)), &got); err != nil {
		t.Fatal(err)
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("stats of %s: %s is %v, want %v", agent, name, got[name], v)
		}
	}
	maps.DeleteFunc(got, func(name string, _ any) bool {
		return slices.Contains([]string{"time", "level", "msg", "component", "event", "agent"}, name)
	})
	names := []string{
		"cooldown_seconds", "failure_count", "failure_threshold", "name", "state", "state_transitions",
		"time_until_retry", "total_failures", "total_successes",
	}
	if fields := slices.Sorted(maps.Keys(got)); !slices.Equal(fields, names) {
		t.Errorf("stats of %s have the fields %q, want %q", agent, fields, names)
	}
}

func TestDrain_SecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	d := start(t)
	beginReport(d, "Worker", d.acquire("Worker").want(http.StatusOK).text("permit"))
	d.signal(syscall.SIGTERM)
	d.awaitText(`"msg":"stopping"`)
	d.signal(syscall.SIGTERM)
	if code := d.ExitCode(); code != 1 {
		t.Errorf("exit code %d after a second signal, want 1", code)
	}
}

func TestDrain_IsBounded(t *testing.T) {
	t.Parallel()
	d := start(t, "SHUTDOWN_TIMEOUT_SECONDS=0.2")
	beginReport(d, "Worker", d.acquire("Worker").want(http.StatusOK).text("permit"))
	d.signal(syscall.SIGTERM)
	if code := d.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	d.awaitText("calls still under way")
}

func TestRedis_DownAtStartIsUsedOnceItIsUp(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	s.Kill()
	d := start(t, "REDIS_URL="+s.URL())
	d.awaitText(`"level":"ERROR"`, "Redis does not answer", s.Addr)
	d.acquire("Early").want(http.StatusOK).has("degraded", true).has("state", "CLOSED")
	for range 5 {
		d.report("Early", d.acquire("Early").want(http.StatusOK).text("permit"), "failure").want(http.StatusOK).has("degraded", true)
	}
	d.acquire("Early").refused("OPEN", "open").has("degraded", true)
	d.call(http.MethodGet, "/livez", "").want(http.StatusOK)
	d.call(http.MethodGet, "/health", "").want(http.StatusOK).has("status", "degraded")
	s.Restart()
	testkit.Eventually(t, "Redis to be found", 10*time.Second, func() error {
		if r := d.call(http.MethodPost, dataPath+"Late/acquire", "").want(http.StatusOK); r.get("degraded") != false {
			return errors.New("degraded")
		}
		return nil
	})
	d.run("Late", "failure", 5)
	if got := redisCLI(t, s, "GET", "circuit_breaker:Late:state"); got != "open" {
		t.Errorf("state %q in Redis", got)
	}
	d.call(http.MethodGet, "/health/checks", "").want(http.StatusOK).has("checks.redis.status", "healthy").has("checks.redis.degraded", false)
	for _, event := range []string{"degraded", "recovered"} {
		if n := len(d.allLogged(`"event":"circuit_breaker.` + event + `"`)); n != 1 {
			t.Errorf("%d log lines of event %s, want 1", n, event)
		}
	}
}

// The deployment guide's troubleshooting greps the log for ConnectionError.
func TestRedis_AwayIsAConnectionErrorInTheLog(t *testing.T) {
	t.Parallel()
	for _, p := range []program{breakerd, bridge} {
		s := testkit.Start(t)
		d := p.start(t, "REDIS_URL="+s.URL())
		d.awaitText("CircuitBreakerManager initialized with Redis connection")
		if _, found := d.logged("ConnectionError"); found {
			t.Errorf("%s says ConnectionError while Redis is up", p.name)
		}
		call := func() { d.acquire("Agent") }
		if p == bridge {
			d.call(http.MethodPost, "/api/v1/agents", `{"name":"Agent","url":"http://127.0.0.1:1"}`).want(http.StatusCreated)
			call = func() { d.call(http.MethodGet, "/agents/Agent/", "") }
		}
		call()
		s.Kill()
		call()
		d.awaitText(`"level":"ERROR"`, "Redis is down", `"event":"circuit_breaker.degraded"`, `"error_type":"ConnectionError"`, s.Addr)
		late := p.start(t, "REDIS_URL="+s.URL())
		late.awaitText(`"level":"ERROR"`, "Redis does not answer", `"error_type":"ConnectionError"`, s.Addr)
	}
	s := testkit.Start(t, "--requirepass", "secret")
	d := start(t, "REDIS_URL=redis://:wrong@"+s.Addr)
	d.awaitText("Redis answers, but refuses these settings")
	if line, found := d.logged("ConnectionError"); found {
		t.Errorf("a wrong password is no ConnectionError: %s", line)
	}
}

func TestDisabled_AdmitsAllAndRecordsNothing(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	d := start(t, "REDIS_URL="+s.URL(), "CIRCUIT_BREAKER_ENABLED=false")
	for range 20 {
		permit := d.acquire("Any").want(http.StatusOK).has("state", "CLOSED").text("permit")
		d.report("Any", permit, "failure").want(http.StatusOK).has("counted", false).has("why", "disabled")
	}
	if got := redisCLI(t, s, "KEYS", "circuit_breaker:Any:*"); got != "" {
		t.Errorf("keys %q", got)
	}
}

func TestConfig_EnvFileWinsOverTheEnvironment(t *testing.T) {
	t.Parallel()
	s, other := testkit.Start(t), testkit.Start(t)
	file := filepath.Join(t.TempDir(), ".env")
	write := func(lines ...string) {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"ENV_FILE=" + file, "CIRCUIT_BREAKER_FAILURE_THRESHOLD=7", "CIRCUIT_BREAKER_TIMEOUT_SECONDS=60", "REDIS_URL=" + s.URL()}
	// Variables that are not of the breaker only fill what is not set, so REDIS_URL here does not count.
	write("# edited by hand", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=2", "REDIS_URL="+other.URL(), "LOG_LEVEL=debug")
	d := start(t, env...)
	d.run("Agent", "failure", 2)
	d.acquire("Agent").refused("OPEN", "open")
	d.show("Agent").has("policy.failure_threshold.value", 2.0).has("policy.failure_threshold.origin", "env_file "+file).
		has("policy.timeout_seconds.origin", "environment")
	if got := redisCLI(t, s, "GET", "circuit_breaker:Agent:state"); got != "open" {
		t.Errorf("state %q in the Redis of the environment", got)
	}
	write("CIRCUIT_BREAKER_TIMEOUT_SECONDS=30") // an edited file counts after a restart
	d.signal(syscall.SIGTERM)
	if code := d.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	again := start(t, env...)
	again.show("Agent").has("policy.timeout_seconds.value", 30.0).has("policy.failure_threshold.value", 7.0).has("state", "OPEN")
}

func TestDaemon_BusyPortIsNamed(t *testing.T) {
	t.Parallel()
	first := start(t)
	second := launch(t, nil, "BREAKERD_LISTEN="+first.addr)
	if code := second.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	second.awaitText("cannot listen", "BREAKERD_LISTEN", first.addr, "address already in use")
	first.call(http.MethodGet, "/livez", "").want(http.StatusOK)
}
