package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// plainBridge builds bridge without the race detector, which needs memory of its own.
var plainBridge = sync.OnceValues(func() (path string, err error) {
	dir := filepath.Join(binaries, "plain")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return filepath.Join(dir, bridge.name), build(dir, "-trimpath", bridge)
})

// startPlain starts it with a registry.
func startPlain(t testing.TB, registry string, env ...string) *daemon {
	t.Helper()
	binary, err := plainBridge()
	if err != nil {
		t.Fatal(err)
	}
	agents := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(agents, []byte(registry), 0o600); err != nil {
		t.Fatal(err)
	}
	d := bridge.launchBinary(t, []string{binary}, append([]string{"AGENTS_FILE=" + agents}, env...)...)
	d.awaitListening()
	return d
}

// memory reads a line of a process's status, in bytes: VmHWM is its peak, VmRSS what it has now.
func memory(t testing.TB, d *daemon, what string) int64 {
	t.Helper()
	text := string(readFile(t, fmt.Sprintf("/proc/%d/status", d.PID())))
	for line := range strings.Lines(text) {
		var kilobytes int64
		if _, err := fmt.Sscanf(line, what+": %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	t.Fatalf("no %s in\n%s", what, text)
	return 0
}

// peakMemory is the peak resident memory of a process, in bytes.
func peakMemory(t testing.TB, d *daemon) int64 { t.Helper(); return memory(t, d, "VmHWM") }

// mayOpen fails the test if the process may not open this number of files.
func mayOpen(t testing.TB, files uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < files { // the Go runtime has raised it to the hard limit
		t.Fatalf("at most %d files may be open, and the test needs %d: raise ulimit -Hn", limit.Cur, files)
	}
}

// metered is an agent that streams a first event, and after each release of its gate as many events as it says.
type metered struct {
	gates  []chan struct{}
	events int
}

func meteredEvent(i int) string {
	return fmt.Sprintf(`data: {"id":"c","choices":[{"index":0,"delta":{"content":"word %06d"},"finish_reason":null}]}`+"\n\n", i)
}

// ServeHTTP implements http.Handler.
func (m *metered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush(w, meteredEvent(0))
	for _, gate := range m.gates {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
		for i := range m.events {
			flush(w, meteredEvent(i))
		}
	}
	flush(w, "data: [DONE]\n\n")
}

// TestStream_AThousandTakeConstantMemory holds 100 streams, then 1,000, through a bridge that reads each event, and
// sends the events of some minutes through all of them.
func TestStream_AThousandTakeConstantMemory(t *testing.T) {
	t.Parallel()
	const most, few, events = 1000, 100, 60
	mayOpen(t, 2*most+500) // the clients' and the agent's; the bridge has as many
	agent := &metered{[]chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}, events}
	server := httptest.NewServer(agent)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	d := startPlain(t, `[{"name":"Llm","url":"`+server.URL+`","classify":"llm"}]`)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var streams []*bufio.Reader
	each := func(what string, from int, read func(i int) error) { // of the streams, in parallel
		t.Helper()
		errs := make(chan error, most)
		for i := from; i < len(streams); i++ {
			go func() { errs <- read(i) }()
		}
		for range len(streams) - from {
			if err := <-errs; err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	open := func(n int) {
		t.Helper()
		from := len(streams)
		streams = append(streams, make([]*bufio.Reader, n)...)
		each("open", from, func(i int) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.addr+"/agents/Llm/v1/chat", strings.NewReader(`{}`))
			if err != nil {
				return err
			}
			res, err := transport.RoundTrip(req) //nolint:bodyclose // ctx ends it
			if err != nil {
				return err
			}
			streams[i] = bufio.NewReaderSize(res.Body, 512)
			return expect(streams[i], 0, 1)
		})
	}
	pass := func(gate int) (resident int64) {
		t.Helper()
		close(agent.gates[gate])
		each("events", 0, func(i int) error { return expect(streams[i], 0, events) })
		return memory(t, d, "VmRSS")
	}
	open(few)
	at100 := memory(t, d, "VmRSS")
	open(most - few)
	at1000 := memory(t, d, "VmRSS")
	// The first minute brings what each stream needs, its buffers among it; the second may bring no more.
	first := pass(0)
	second := pass(1)
	t.Logf("resident: %d kB with %d streams, %d kB with %d, %d kB after their first events, %d kB after as many again", at100>>10, few, at1000>>10, most, first>>10, second>>10)
	const stream, slack = 160 << 10, 16 << 20
	if grown := max(first, second) - at100; grown > (most-few)*stream {
		t.Errorf("%d streams more took %d MB more", most-few, grown>>20)
	}
	if second > first+slack {
		t.Errorf("events that have passed left %d MB", (second-first)>>20)
	}
	await(d, `circuit_breaker_state{agent="Llm"} 0`)
	close(agent.gates[2])
	each("the end", 0, func(i int) error {
		if err := expect(streams[i], 0, events); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, streams[i])
		return err
	})
	await(d, `bridge_upstream_duration_seconds_count{agent="Llm",outcome="success"} `+strconv.Itoa(most))
}

// expect reads events of metered.
func expect(in *bufio.Reader, from, n int) error {
	got := make([]byte, len(meteredEvent(0)))
	for i := from; i < from+n; i++ {
		if _, err := io.ReadFull(in, got); err != nil {
			return err
		}
		if string(got) != meteredEvent(i) {
			return fmt.Errorf("event %d is %q", i, got)
		}
	}
	return nil
}
