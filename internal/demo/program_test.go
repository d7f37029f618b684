package demo

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// exec runs the program to its end.
func exec(t *testing.T, args []string, environ ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Run(t.Context(), args, environ, &out, &err, make(chan os.Signal))
	return code, out.String(), err.String()
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg            string
		code           int
		stdout, stderr string
	}{
		{"--help", 0, "FOR DEMONSTRATIONS", ""},
		{"-h", 0, "DEMO_AGENTS", ""},
		{"--version", 0, "demo-agent ", ""},
		{"--loud", 2, "", `unknown argument "--loud"`},
	} {
		code, stdout, stderr := exec(t, []string{c.arg})
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: %d\n%s\n%s", c.arg, code, stdout, stderr)
		}
	}
}

func TestBadConfigurationExitsWith2(t *testing.T) {
	t.Parallel()
	for _, environ := range [][]string{
		{"DEMO_LISTEN=9000"}, {"DEMO_LISTEN=127.0.0.1:x"}, {"DEMO_LISTEN=127.0.0.1:65536"}, {"DEMO_LISTEN=http://a:9000"}, {"DEMO_AGENTS=A=dead"},
	} {
		name, _, _ := strings.Cut(environ[0], "=")
		for _, args := range [][]string{nil, {"--health"}} {
			if code, stdout, stderr := exec(t, args, environ...); code != 2 || stdout != "" || !strings.Contains(stderr, name) {
				t.Errorf("%q %q: %d\n%s", environ, args, code, stderr)
			}
		}
	}
}

func TestAListenerThatIsTakenExitsWith1(t *testing.T) {
	t.Parallel()
	p := start(t)
	if code, _, stderr := exec(t, nil, "DEMO_LISTEN="+strings.TrimPrefix(p.url, "http://")); code != 1 || !strings.Contains(stderr, "DEMO_LISTEN") {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestHealthAsksTheOneThatRuns(t *testing.T) {
	t.Parallel()
	p := start(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", ""} {
		if code, stdout, stderr := exec(t, []string{"--health"}, "DEMO_LISTEN="+host+":"+port); code != 0 || stdout != "ready\n" {
			t.Errorf("%q: %d %s", host, code, stderr)
		}
	}
	if code, _, stderr := exec(t, []string{"--health"}, "DEMO_LISTEN=127.0.0.1:1"); code != 1 || !strings.Contains(stderr, "not ready") {
		t.Errorf("nobody there: %d %s", code, stderr)
	}
	for listen, want := range map[string]string{
		":9000": "127.0.0.1:9000", "0.0.0.0:9000": "127.0.0.1:9000", "[::]:9000": "[::1]:9000", "127.0.0.2:9000": "127.0.0.2:9000", "demo:9000": "demo:9000",
	} {
		if have := reachable(listen); have != want {
			t.Errorf("%s: %s, want %s", listen, have, want)
		}
	}
}

func TestSIGTERMLetsCallsEnd(t *testing.T) {
	t.Parallel()
	for _, h2c := range []bool{false, true} {
		p := start(t)
		p.mode("A", `{"mode":"streaming","interval_ms":100,"events":4}`)
		client := p.client
		if h2c {
			client = p.h2c
		}
		res, err := client.Do(p.request("GET", "/A", http.NoBody))
		if err != nil {
			t.Fatal(err)
		}
		p.signals <- syscall.SIGTERM
		p.wantExit(0)
		if text, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(text), `"event":4`) {
			t.Errorf("%s: cut: %v\n%s", res.Proto, err, text)
		}
		_ = res.Body.Close()
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := start(t)
	failed := make(chan error, 1)
	go func() {
		res, err := p.client.Do(p.request("GET", "/HangingAgent", http.NoBody))
		if err == nil {
			_ = res.Body.Close()
		}
		failed <- err
	}()
	p.wantInFlight("HangingAgent", 1)
	p.signals <- syscall.SIGTERM
	p.signals <- syscall.SIGTERM
	p.wantExit(1)
	if <-failed == nil {
		t.Error("the hanging call was answered")
	}
}

// wantExit waits for the program's end, and puts the code back for what waits next.
func (p *program) wantExit(code int) {
	p.t.Helper()
	have := <-p.exit
	p.exit <- have
	if have != code {
		p.t.Errorf("exit code %d, want %d: %s", have, code, p.stderr.String())
	}
}
