package e2e

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// protocols lists curl's option for each HTTP version.
func protocols() []string { return []string{"--http1.1", "--http2-prior-knowledge"} }

// curled is the result of one run of curl.
type curled struct {
	exit     int
	status   int
	head     string // all header blocks, 1xx and trailers included; lines end with \n
	body     []byte
	uploaded int64 // bytes of body that were sent
	stderr   string
}

// curl runs the real curl. A failure of curl is a result, not the test's.
func curl(t testing.TB, args ...string) curled {
	t.Helper()
	need(t, "curl")
	dir := t.TempDir()
	head, body := filepath.Join(dir, "head"), filepath.Join(dir, "body")
	own := []string{"--silent", "--show-error", "--max-time", "30", "--dump-header", head, "--write-out", "%{http_code} %{size_upload}"}
	if !slices.Contains(args, "--output") {
		own = append(own, "--output", body)
	}
	cmd := exec.CommandContext(t.Context(), "curl", append(own, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var ended *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	status, uploaded, _ := strings.Cut(stdout.String(), " ")
	c := curled{exit: cmd.ProcessState.ExitCode(), stderr: stderr.String()}
	c.status, _ = strconv.Atoi(status)
	c.uploaded, _ = strconv.ParseInt(uploaded, 10, 64)
	c.head, c.body = strings.ReplaceAll(string(readFile(t, head)), "\r\n", "\n"), readFile(t, body)
	return c
}

// readFile returns nothing for a file that does not exist.
func readFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return text
}

// ok wants a complete response with this status.
func (c curled) ok(t testing.TB, status int) curled {
	t.Helper()
	if c.exit != 0 || c.status != status {
		t.Fatalf("curl: exit code %d, status %d, want %d: %s%s\n%.2000s", c.exit, c.status, status, c.stderr, c.head, c.body)
	}
	return c
}

// header returns every value of a header in all blocks, whatever its case.
func (c curled) header(name string) (values []string) {
	for line := range strings.Lines(c.head) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// one wants the header exactly once, with this value.
func (c curled) one(t testing.TB, name, want string) curled {
	t.Helper()
	if got := c.header(name); len(got) != 1 || got[0] != want {
		t.Errorf("header %s: %.200q, want %.200q", name, got, want)
	}
	return c
}

// handled is a bridge in front of one agent, Agent, which is the test's handler.
type handled struct {
	*daemon
	redis *testkit.Server
	url   string // of the agent, through the bridge; no slash at its end
}

// behind starts an agent and a bridge in front of it. env is added to the bridge's environment.
func behind(t testing.TB, agent http.Handler, env ...string) *handled {
	t.Helper()
	return behindPolicy(t, agent, "{}", env...)
}

// behindPolicy is behind, with a circuit_breaker_config for the agent.
func behindPolicy(t testing.TB, agent http.Handler, policy string, env ...string) *handled {
	t.Helper()
	server := httptest.NewServer(agent)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "agents.json")
	text := `[{"name":"Agent","url":"` + server.URL + `/base","circuit_breaker_config":` + policy + `}]`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := testkit.Start(t)
	d := bridge.start(t, append([]string{"REDIS_URL=" + s.URL(), "AGENTS_FILE=" + file}, env...)...)
	return &handled{d, s, "http://" + d.addr + "/agents/Agent"}
}

// outcomes waits until the agent has this number of calls with this outcome.
func (h *handled) outcomes(outcome string, want int) {
	h.t.Helper()
	await(h.daemon, `bridge_upstream_duration_seconds_count{agent="Agent",outcome="`+outcome+`"} `+strconv.Itoa(want))
}
