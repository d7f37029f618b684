package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// tripped checks that the breaker works: five failures open it, and Redis has that.
func tripped(t *testing.T, d *daemon, s *testkit.Server) {
	t.Helper()
	d.run("FailingAgent", "failure", 5)
	d.acquire("FailingAgent").refused("OPEN", "open").has("degraded", nil)
	if got, err := s.Client(t).Get(t.Context(), "circuit_breaker:FailingAgent:state").Result(); got != "open" {
		t.Errorf("state %q in Redis (%v)", got, err)
	}
	d.call(http.MethodGet, "/health", "").want(http.StatusOK).has("status", "healthy")
}

func TestTLS_ClientCertificates(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s := testkit.StartTLS(t, ca)
	if !strings.HasPrefix(s.URL(), "rediss://") || !strings.Contains(s.URL(), "ca_file=") {
		t.Fatalf("URL %s", s.URL())
	}
	tripped(t, start(t, "REDIS_URL="+s.URL()), s)
}

func TestTLS_FaultIsNamed(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s, wrong := testkit.StartTLS(t, ca), testkit.NewCA(t)
	with := func(caFile string, client testkit.Pair) string {
		return "rediss://" + s.Addr + "/0?" + url.Values{"ca_file": {caFile}, "cert_file": {client.CertFile}, "key_file": {client.KeyFile}}.Encode()
	}
	for name, c := range map[string]struct{ url, says string }{
		"wrong CA":              {with(wrong.File, testkit.Pair{CertFile: s.CertFile, KeyFile: s.KeyFile}), "certificate signed by unknown authority"},
		"certificate of others": {with(ca.File, wrong.ClientPair(t)), "client certificate"},
		"no certificate":        {"rediss://" + s.Addr + "/0?ca_file=" + ca.File, "client certificate"},
		"no TLS":                {"redis://" + s.Addr + "/0", ""},
	} {
		d := start(t, "REDIS_URL="+c.url)
		d.acquire("Agent").want(http.StatusOK).has("degraded", true)
		line := d.awaitText("Redis does not answer", `"level":"ERROR"`)
		checks := d.call(http.MethodGet, "/health/checks", "").want(http.StatusOK).has("status", "degraded").has("checks.redis.status", "degraded")
		detail, _ := checks.get("checks.redis").(map[string]any)
		if says := fmt.Sprint(detail["detail"]); !strings.Contains(line, c.says) || !strings.Contains(says, c.says) {
			t.Errorf("%s: want %q\nthe log says %s\n/health/checks says %s", name, c.says, line, says)
		}
	}
}

// TestRedis_RefusingTheSettingsIsNamed: the replica starts, and the log says what to change.
func TestRedis_RefusingTheSettingsIsNamed(t *testing.T) {
	t.Parallel()
	open, locked := testkit.Start(t), testkit.Start(t, "--requirepass", "right")
	for url, says := range map[string]string{
		"redis://:wrong@" + locked.Addr: "WRONGPASS",
		"redis://" + locked.Addr:        "set REDIS_PASSWORD",
		"redis://" + open.Addr + "/99":  "no such database",
		"redis+cluster://" + open.Addr:  "redis:// in place of redis+cluster://",
	} {
		d := start(t, "REDIS_URL="+url)
		d.awaitText("refuses these settings", `"level":"ERROR"`, `"advice":`, says)
		d.acquire("Agent").want(http.StatusOK).has("degraded", true)
	}
}

func TestRedis_UnixSocket(t *testing.T) {
	t.Parallel()
	s, _ := testkit.StartUnix(t)
	tripped(t, start(t, "REDIS_URL="+s.URL()), s)
}

// TestBanner_OfEmbeddedSaysWhatItIsAndWhatToTry runs what a first start shows at a terminal, word for word.
func TestBanner_OfEmbeddedSaysWhatItIsAndWhatToTry(t *testing.T) {
	t.Parallel()
	need(t, "bash", "curl", "script")
	errs := filepath.Join(t.TempDir(), "stderr")
	if err := os.WriteFile(errs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// script runs it on a terminal of its own, and copies what it prints there.
	d := breakerd.launchBinary(t, []string{"script", "-qefc", "exec " + breakerd.binary() + " 2>" + errs, "/dev/null"})
	d.StderrFile = errs
	d.awaitListening()
	var banner string
	testkit.Eventually(t, "the banner", startTimeout, func() error {
		if banner = strings.ReplaceAll(d.Stdout(), "\r\n", "\n"); !strings.HasSuffix(banner, "/v1/admin/circuit_breakers\n") {
			return fmt.Errorf("stdout: %s", banner)
		}
		return nil
	})
	for _, want := range []string{"listens on http://" + d.addr + "\n", "NOTHING IS KEPT", "REDIS_URL"} {
		if !strings.Contains(banner, want) {
			t.Errorf("no %q in\n%s", want, banner)
		}
	}
	commands := regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(banner, -1)
	answers := []string{`^\{"allowed":true,"permit":"v1\.closed\.`, `^\{"state":"CLOSED","counted":true\}`, `"agent_id":"my-agent","state":"CLOSED".*"failure_count":1`}
	if len(commands) != len(answers) {
		t.Fatalf("%d commands in\n%s", len(commands), banner)
	}
	for i, command := range commands {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		out, err := cmd.Output()
		if err != nil || !regexp.MustCompile(answers[i]).Match(out) {
			t.Errorf("%s\nanswers %s (%v), want %s", command, out, err, answers[i])
		}
	}
	d.awaitText(`"level":"WARN"`, "lost at exit")
	d.call(http.MethodGet, "/health/checks", "").want(http.StatusOK).has("status", "healthy")
}

// TestBanner_OnlyOnATerminal: `docker logs | jq` reads JSON lines and nothing else.
func TestBanner_OnlyOnATerminal(t *testing.T) {
	t.Parallel()
	for _, p := range []program{breakerd, bridge, demoAgent} {
		d := p.start(t)
		d.signal(syscall.SIGTERM)
		if code := d.ExitCode(); code != 0 || d.Stdout() != "" {
			t.Errorf("%s: exit code %d, stdout %q", p.name, code, d.Stdout())
		}
	}
}
