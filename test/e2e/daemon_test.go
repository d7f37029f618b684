package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon is one program of ours that serves HTTP.
type daemon struct {
	*process
	program

	addr   string // host:port; "" until it listens
	client *http.Client
}

// launch starts breakerd on a free port and does not wait until it listens. inside is a command that runs it elsewhere,
// such as in a network namespace.
func launch(t testing.TB, inside []string, env ...string) *daemon {
	t.Helper()
	return breakerd.launch(t, inside, env...)
}

// start starts breakerd on a free port and waits until it listens.
func start(t testing.TB, env ...string) *daemon {
	t.Helper()
	return breakerd.start(t, env...)
}

// launch is for any program. The program's environment is env alone, without the test's.
func (p program) launch(t testing.TB, inside []string, env ...string) *daemon {
	t.Helper()
	return p.launchBinary(t, append(inside, p.binary()), env...)
}

func (p program) launchBinary(t testing.TB, argv []string, env ...string) *daemon {
	t.Helper()
	return p.launchFiles(t, argv, nil, env...)
}

// launchFiles starts a program that inherits files.
func (p program) launchFiles(t testing.TB, argv []string, files []*os.File, env ...string) *daemon {
	t.Helper()
	// By default, a program with the race detector sleeps for a second before it exits.
	// A busy machine is no reason to be degraded, so a round trip to Redis may take two seconds.
	environ := append([]string{
		"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10", "REDIS_TIMEOUT_MS=2000", p.listen + "=127.0.0.1:0",
	}, env...)
	d := &daemon{process: spawn(t, argv, environ, files...), program: p}
	t.Cleanup(d.end)
	return d
}

// start is for any program.
func (p program) start(t testing.TB, env ...string) *daemon {
	t.Helper()
	d := p.launch(t, nil, env...)
	d.awaitListening()
	return d
}

// awaitListening waits for the log line with the address.
func (d *daemon) awaitListening() {
	d.t.Helper()
	var line struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal([]byte(d.awaitText(`"msg":"listening"`)), &line); err != nil {
		d.t.Fatal(err)
	}
	d.addr = line.Address
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	d.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	d.t.Cleanup(transport.CloseIdleConnections)
}

// end sends SIGTERM and checks each run: exit code 0, no data race, a log of JSON objects.
func (d *daemon) end() {
	t := d.t
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	if d.Running() && d.addr != "" && !d.signalled {
		d.signal(syscall.SIGTERM)
		select {
		case <-d.Done():
			if code := d.ExitCode(); code != 0 {
				t.Errorf("SIGTERM ended %s with exit code %d", d.name, code)
			}
		case <-time.After(endTimeout):
			t.Errorf("%s runs on, %v after SIGTERM", d.name, endTimeout)
		}
	}
	text := d.Stderr()
	if d.addr != "" {
		checkLog(t, text)
	}
	if strings.Contains(text, "WARNING: DATA RACE") {
		t.Errorf("%s has a data race", d.name)
	}
	if t.Failed() {
		t.Logf("%s %s said:\n%s%s", d.name, d.addr, tail(d.Stdout(), 2000), tail(text, 12000))
	}
}

func tail(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return "…" + text[len(text)-most:]
}

// checkLog wants every line to be one JSON object that carries the component.
func checkLog(t testing.TB, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Errorf("log line is no JSON object (%v): %s", err, line)
			return
		}
		if object["component"] != "Circuit Breaker" {
			t.Errorf("log line without its component: %s", line)
		}
	}
}
