package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

func TestConfig_BadValueIsNamedWithWhatIsAllowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.env")
	if err := os.WriteFile(bad, []byte("CIRCUIT_BREAKER_TIMEOUT_SECONDS=soon\nno equals sign\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ env, says []string }{
		{[]string{"CIRCUIT_BREAKER_FAILURE_THRESHOLD=300"}, []string{`CIRCUIT_BREAKER_FAILURE_THRESHOLD="300"`, "255"}},
		{[]string{"CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD=1.5"}, []string{`CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD="1.5"`, "0 to 1"}},
		{[]string{"CIRCUIT_BREAKER_MODE=loud", "LOG_LEVEL=shout"}, []string{`CIRCUIT_BREAKER_MODE="loud"`, "enforce", "observe", `LOG_LEVEL="shout"`, "debug"}},
		{[]string{"CIRCUIT_BREAKER_TIMEOUT_SECONDS=7200"}, []string{"CIRCUIT_BREAKER_TIMEOUT_SECONDS=", "CIRCUIT_BREAKER_TIMEOUT_MAX_SECONDS"}},
		{[]string{"REDIS_TIMEOUT_MS=0"}, []string{`REDIS_TIMEOUT_MS="0"`, "from 1 to 60000"}},
		{[]string{"REDIS_URL=http://localhost:6379"}, []string{"REDIS_URL", "unknown scheme", "redis://"}}, // whose text may be a secret
		{[]string{"REDIS_URL=redis://localhost:6379/0?tiemout=3"}, []string{"REDIS_URL", "tiemout", "allowed"}},
		{[]string{"BREAKERD_LISTEN=18180"}, []string{`BREAKERD_LISTEN="18180"`, "host:port"}},
		{[]string{"BREAKERD_LISTEN=0.0.0.0:0"}, []string{"BREAKERD_LISTEN", "0.0.0.0:0", "loopback", "BREAKERD_AUTH=none"}},
		{[]string{"BREAKERD_LISTEN=[::]:0"}, []string{"BREAKERD_LISTEN", "loopback"}},
		{[]string{"ENV_FILE=" + bad}, []string{`CIRCUIT_BREAKER_TIMEOUT_SECONDS="soon"`, bad, "line 2", "KEY=VALUE"}},
		{[]string{"ENV_FILE=" + dir + "/absent"}, []string{"ENV_FILE", "absent"}},
		{[]string{"WEBHOOKS_FILE=" + dir + "/absent"}, []string{"WEBHOOKS_FILE", "absent"}},
		{[]string{"WEBHOOKS_FILE=" + bad}, []string{"WEBHOOKS_FILE", bad, "line 1", "want a YAML list of hooks"}},
		{[]string{"REDIS_PASSWORD_FILE=" + dir + "/absent"}, []string{"REDIS_PASSWORD_FILE", "absent"}},
	} {
		d := launch(t, nil, c.env...)
		if code := d.ExitCode(); code != 2 {
			t.Errorf("%q: exit code %d, want 2", c.env, code)
		}
		for _, want := range c.says {
			if !strings.Contains(d.Stderr(), want) {
				t.Errorf("%q: no %q in\n%s", c.env, want, d.Stderr())
			}
		}
		if d.Stdout() != "" {
			t.Errorf("%q: stdout says %s", c.env, d.Stdout())
		}
	}
}

func TestConfig_OpenListenerNeedsConsent(t *testing.T) {
	t.Parallel()
	d := start(t, "BREAKERD_LISTEN=0.0.0.0:0", "BREAKERD_AUTH=none")
	d.call(http.MethodGet, "/livez", "").want(http.StatusOK)
}

func TestDaemon_Arguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg, stdout, stderr string
		code                int
	}{
		{"--version", "breakerd ", "", 0},
		{"--help", "breakerd", "", 0},
		{"--verbose", "", `unknown argument "--verbose"`, 2},
	} {
		p := spawn(t, []string{breakerd.binary(), c.arg}, []string{"GORACE=atexit_sleep_ms=10"})
		if code := p.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.arg, code, c.code)
		}
		if out, errs := p.Stdout(), p.Stderr(); !strings.Contains(out, c.stdout) || !strings.Contains(errs, c.stderr) || (c.code == 0) != (errs == "") {
			t.Errorf("%s: stdout %q, stderr %q", c.arg, out, errs)
		}
	}
}

func TestConfig_PasswordIsNeverShown(t *testing.T) {
	t.Parallel()
	const password = "correct-horse-battery"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := testkit.Start(t, "--requirepass", password)
	locked, gone := testkit.Start(t, "--requirepass", "another"), testkit.Start(t)
	gone.Kill()
	for name, env := range map[string][]string{
		"right":       {"REDIS_URL=redis://:" + password + "@" + s.Addr + "/0"},
		"in variable": {"REDIS_URL=redis://" + s.Addr + "/0", "REDIS_PASSWORD=" + password},
		"in file":     {"REDIS_URL=redis://" + s.Addr + "/0", "REDIS_PASSWORD_FILE=" + secret},
		"wrong":       {"REDIS_URL=redis://:" + password + "@" + locked.Addr + "/0"},
		"away":        {"REDIS_URL=redis://user:" + password + "@" + gone.Addr + "/0"},
		"sentinel":    {"REDIS_URL=redis://:" + password + "@" + gone.Addr + "/mymaster?sentinel_password=" + password},
	} {
		d := start(t, append(env, "LOG_LEVEL=debug")...)
		var shown strings.Builder
		shown.Write(d.acquire("Agent").want(http.StatusOK).has("degraded", name == "wrong" || name == "away" || name == "sentinel").body)
		for _, path := range []string{"/health", "/health/checks", "/metrics", "/openapi.json", "/v1/admin/circuit_breakers"} {
			shown.Write(d.call(http.MethodGet, path, "").body)
		}
		d.signal(syscall.SIGTERM)
		d.ExitCode()
		d.mustNotShow(name, password, shown.String())
	}
	for _, url := range []string{"redis://:" + password + "@host:notaport/0", "redis://:" + password + "@host/x/y", "rediss://:" + password + "@host:6379/0?ca_file=/absent"} {
		d := launch(t, nil, "REDIS_URL="+url)
		if code := d.ExitCode(); code != 2 {
			t.Errorf("a bad URL: exit code %d, want 2", code)
		}
		d.mustNotShow("bad URL", password, "")
	}
}

// TestLog_DebugShowsRequestsCallsAndFailedStoreCalls: an operator sees what passes, and what Redis answers.
func TestLog_DebugShowsRequestsCallsAndFailedStoreCalls(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	loud, quiet := s.bridge("LOG_LEVEL=debug"), s.bridge()
	for _, b := range []*daemon{loud, quiet} {
		b.through("Other", "/a/b?secret=1").want(http.StatusOK)
		b.call(http.MethodGet, "/api/v1/agents/Other", "").want(http.StatusOK)
		b.call(http.MethodGet, "/nowhere", "").want(http.StatusNotFound)
	}
	loud.awaitText(`"level":"DEBUG"`, `"msg":"request"`, `"method":"GET"`, `"path":"/agents/Other/a/b"`, `"agent":"Other"`, `"status":200`, `"duration_seconds":`)
	loud.awaitText(`"msg":"request"`, `"path":"/api/v1/agents/Other"`, `"agent":"Other"`, `"status":200`)
	loud.awaitText(`"msg":"request"`, `"path":"/nowhere"`, `"agent":""`, `"status":404`)
	loud.awaitText(`"level":"DEBUG"`, `"msg":"agent called"`, `"agent":"Other"`, `"status":200`, `"outcome":"success"`, `"duration_seconds":`)
	s.redis.Kill()
	loud.through("Other", "/").want(http.StatusOK)
	loud.awaitText(`"level":"DEBUG"`, `"msg":"store call failed"`, `"verb":"acquire"`, `"agent":"Other"`, `"error":`)
	loud.awaitText(`"level":"DEBUG"`, `"msg":"store call sent again"`, `"error":`)
	if strings.Contains(loud.Stderr(), "secret=1") {
		t.Error("a query is logged")
	}
	if line, ok := quiet.logged(`"level":"DEBUG"`); ok {
		t.Errorf("level info shows %s", line)
	}
}

func (d *daemon) mustNotShow(name, password, shown string) {
	d.t.Helper()
	for _, text := range []string{d.Stdout(), d.Stderr(), shown} {
		for line := range strings.Lines(text) {
			if strings.Contains(line, password) {
				d.t.Errorf("%s: the password is shown: %s", name, line)
			}
		}
	}
}
