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

// daemon is one breakerd.
type daemon struct {
	*process

	addr   string // host:port; "" until it listens
	client *http.Client
}

// launch starts breakerd on a free port and does not wait until it listens. inside is the command that runs it elsewhere, as in
// a network namespace; env is added to nothing: what the test's own environment holds does not matter.
func launch(t testing.TB, inside []string, env ...string) *daemon {
	t.Helper()
	// By default, a program with the race detector sleeps for a second before it exits.
	environ := append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10", "BREAKERD_LISTEN=127.0.0.1:0"}, env...)
	d := &daemon{process: spawn(t, append(inside, binary), environ)}
	t.Cleanup(d.end)
	return d
}

// start starts breakerd on a free port and waits until it listens.
func start(t testing.TB, env ...string) *daemon {
	t.Helper()
	d := launch(t, nil, env...)
	d.awaitListening()
	return d
}

// awaitListening reads the address from the log line that tells it.
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

// end stops the daemon as an operator would, and checks what every run owes: exit 0, no data race, a log of JSON objects.
func (d *daemon) end() {
	t := d.t
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	if d.running() && d.addr != "" && !d.signalled {
		d.signal(syscall.SIGTERM)
		select {
		case <-d.done:
			if code := d.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("SIGTERM ended breakerd with exit code %d", code)
			}
		case <-time.After(endTimeout):
			t.Errorf("breakerd runs on, %v after SIGTERM", endTimeout)
		}
	}
	text := d.errText()
	if d.addr != "" {
		checkLog(t, text)
	}
	if strings.Contains(text, "WARNING: DATA RACE") {
		t.Error("breakerd has a data race")
	}
	if t.Failed() {
		t.Logf("breakerd %s said:\n%s%s", d.addr, tail(d.outText(), 2000), tail(text, 12000))
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
