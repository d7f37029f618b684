package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// stepwise is an agent that sends one event for each receive from next.
type stepwise struct {
	next  chan struct{} // closed: all remaining events
	ended chan error    // of each call: why it ended
}

func newStepwise() *stepwise { return &stepwise{make(chan struct{}), make(chan error, 16)} }

// ServeHTTP sends the first event at once, and ends after the hundredth.
func (s *stepwise) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := "text/event-stream"
	if strings.HasSuffix(r.URL.Path, "/plain") {
		kind = "application/x-ndjson"
	}
	w.Header().Set("Content-Type", kind)
	for i := range 100 {
		_, err := fmt.Fprintf(w, "data: %d\n\n", i)
		if err := errors.Join(err, http.NewResponseController(w).Flush()); err != nil {
			s.ended <- err
			return
		}
		select {
		case <-s.next:
		case <-r.Context().Done():
			s.ended <- r.Context().Err()
			return
		}
	}
	s.ended <- nil
}

// streaming runs curl until the test ends it. curl prints the body as it arrives.
func streaming(t testing.TB, args ...string) *process {
	t.Helper()
	need(t, "curl")
	return spawn(t, append([]string{"curl", "--no-buffer", "--silent", "--show-error", "--max-time", "60"}, args...), []string{"PATH=" + os.Getenv("PATH")})
}

// awaitOut waits until a process has printed this.
func (p *process) awaitOut(want string) {
	p.t.Helper()
	testkit.Eventually(p.t, "output", 15*time.Second, func() error {
		if got := p.Stdout(); !strings.HasSuffix(got, want) {
			return fmt.Errorf("it printed %q, want %q at the end; stderr %s", got, want, p.Stderr())
		}
		return nil
	})
}

func TestStream_EachEventArrivesBeforeTheNextIsSent(t *testing.T) {
	t.Parallel()
	agent := newStepwise()
	h := behind(t, agent)
	for _, proto := range protocols() {
		for _, path := range []string{"/sse", "/plain"} {
			c := streaming(t, proto, h.url+path)
			for i := range 3 {
				c.awaitOut(fmt.Sprintf("data: %d\n\n", i)) // the agent has not been asked for the next
				agent.next <- struct{}{}
			}
			c.awaitOut("data: 3\n\n")
			c.signal(syscall.SIGKILL)
			select { // the agent sees that the client has gone
			case err := <-agent.ended:
				if err == nil {
					t.Error("the agent came to its end")
				}
			case <-time.After(15 * time.Second):
				t.Fatal("the agent streams on, and nobody listens")
			}
		}
	}
	h.outcomes("success", 4) // the agent was well as long as somebody listened
	if v := h.breakerOf("Agent", "failure_count"); v != 0.0 {
		t.Errorf("%v failures were counted", v)
	}
}

func TestStream_RequestStreamsWhileTheResponseDoes(t *testing.T) {
	t.Parallel()
	h := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		part := make([]byte, 100)
		for {
			n, err := r.Body.Read(part)
			_, _ = w.Write(part[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	}))
	for _, two := range []bool{false, true} {
		var p http.Protocols
		p.SetHTTP1(!two)
		p.SetUnencryptedHTTP2(two)
		transport := &http.Transport{Protocols: &p}
		t.Cleanup(transport.CloseIdleConnections)
		out, in := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/talk", out)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(in, "ping 0") }()
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 { // each word waits for the answer to the one before
			want := fmt.Sprintf("ping %d", i)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
				t.Fatalf("HTTP/2 %v: got %q, %v, want %q", two, got, err, want)
			}
			if i < 2 {
				_, _ = fmt.Fprintf(in, "ping %d", i+1)
			}
		}
		_ = in.Close()
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Error(err)
		}
		_ = res.Body.Close()
		if two && !reuses(t, transport, h.url+"/again") {
			t.Error("an answer that overtook its request ended the connection of HTTP/2 under all others")
		}
	}
}

// reuses makes one more call and reports whether it reused a connection.
func reuses(t testing.TB, transport http.RoundTripper, url string) (reused bool) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return reused
}

// TestStream_AgentThatDiesHalfWayIsAFailure: a truncated response must not look complete.
func TestStream_AgentThatDiesHalfWayIsAFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	exits := map[string]int{"--http1.1": 18, "--http2-prior-knowledge": 92} // partial file; stream not closed cleanly
	for i, proto := range protocols() {
		agent := demoAgent.start(t, "DEMO_AGENTS=Stream=streaming")
		name := "Mortal" + strconv.Itoa(i)
		b.call(http.MethodPost, "/api/v1/agents", `{"name":"`+name+`","url":"http://`+agent.addr+`/Stream"}`).want(http.StatusCreated)
		c := streaming(t, proto, "http://"+b.addr+"/agents/"+name+"/")
		testkit.Eventually(t, "the first event", 15*time.Second, func() error {
			if c.Stdout() == "" {
				return errors.New(c.Stderr())
			}
			return nil
		})
		agent.signal(syscall.SIGKILL)
		if code := c.ExitCode(); code != exits[proto] {
			t.Errorf("curl %s: exit code %d, want %d: %s", proto, code, exits[proto], c.Stderr())
		}
		testkit.Eventually(t, "the failure to count", 10*time.Second, func() error {
			if v := b.breakerOf(name, "totals.failures"); v != 1.0 {
				return fmt.Errorf("%v failures", v)
			}
			return nil
		})
		r := curl(t, proto, "http://"+b.addr+"/agents/"+name+"/")
		r.ok(t, http.StatusBadGateway).one(t, "Content-Type", "application/problem+json")
		if !strings.Contains(string(r.body), `"upstream_unreachable"`) {
			t.Errorf("%s", r.body)
		}
	}
}

// TestStream_ProbeKeepsItsLease: the lease is one second, the stream takes three.
func TestStream_ProbeKeepsItsLease(t *testing.T) {
	t.Parallel()
	agent := newStepwise()
	h := behind(t, agent, "CIRCUIT_BREAKER_PROBE_TIMEOUT_SECONDS=1", "CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS=1",
		"CIRCUIT_BREAKER_PROBE_SETTLE_SECONDS=60")
	other := bridge.start(t, "REDIS_URL="+h.redis.URL())
	other.call(http.MethodPost, "/api/v1/agents", `{"name":"Second","url":"http://127.0.0.1:1"}`).want(http.StatusCreated)
	core := start(t, "REDIS_URL="+h.redis.URL(), "CIRCUIT_BREAKER_PROBE_TIMEOUT_SECONDS=1", "CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS=1")
	core.run("Agent", "success", 1)
	core.reset("Agent", "HALF_OPEN")
	c := streaming(t, "--http1.1", h.url+"/probe")
	c.awaitOut("data: 0\n\n")
	begin, refused := time.Now(), 0
	testkit.Eventually(t, "three seconds to pass", 15*time.Second, func() error {
		h.through("Agent", "/other").refused("HALF_OPEN", "probes_busy")
		core.acquire("Agent").refused("HALF_OPEN", "probes_busy")
		refused++
		if time.Since(begin) < 3*time.Second {
			return errors.New("not yet")
		}
		return nil
	})
	close(agent.next)
	if code := c.ExitCode(); code != 0 {
		t.Errorf("curl: exit code %d: %s", code, c.Stderr())
	}
	c.awaitOut("data: 99\n\n")
	core.show("Agent").has("state", "CLOSED")
	h.through("Agent", "/").want(http.StatusOK)
	t.Logf("%d times two calls were refused meanwhile", refused)
}

// zeros creates a file of size zero bytes.
func zeros(t testing.TB, size int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	return file
}

// bodies is an agent for large bodies: GET /bytes/{n} sends n zero bytes; POST /echo returns each part before it reads
// the next, and counts the bytes in the trailer X-Body-Bytes.
func bodies() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", r.PathValue("n"))
		left, _ := strconv.Atoi(r.PathValue("n"))
		for part := make([]byte, 32<<10); left > 0; left -= len(part) {
			part = part[:min(left, len(part))]
			_, _ = w.Write(part)
		}
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Body-Bytes")
		n, err := io.Copy(flushing{w}, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // a clean end would look complete
		}
		w.Header().Set("X-Body-Bytes", strconv.FormatInt(n, 10))
	})
	return http.StripPrefix("/base", mux)
}

// flushing flushes after each write.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	return n, errors.Join(err, http.NewResponseController(f.ResponseWriter).Flush())
}

// TestStream_HundredMegabytesTakeConstantMemory runs bridge without the race detector, which needs memory of its own.
func TestStream_HundredMegabytesTakeConstantMemory(t *testing.T) {
	t.Parallel()
	agent := httptest.NewServer(bodies())
	t.Cleanup(agent.Close)
	b := startPlain(t, `[{"name":"Bodies","url":"`+agent.URL+`/base"}]`)
	const size = 100 << 20
	file, url := zeros(t, size), "http://"+b.addr+"/agents/Bodies"
	for _, proto := range protocols() {
		curl(t, proto, url+"/bytes/1000").ok(t, 200)
		before := peakMemory(t, b)
		curl(t, proto, "--output", "/dev/null", url+"/bytes/"+strconv.Itoa(size)).ok(t, 200).one(t, "Content-Length", strconv.Itoa(size))
		r := curl(t, proto, "--output", "/dev/null", "-H", "Expect:", "-X", "POST", "-T", file, url+"/echo").ok(t, 200).one(t, "X-Body-Bytes", strconv.Itoa(size))
		if r.uploaded != size {
			t.Errorf("%s: curl sent %d bytes", proto, r.uploaded)
		}
		grown := peakMemory(t, b) - before
		t.Logf("%s: 200 MB down and 100 MB up took %d kB more than %d kB", proto, grown>>10, before>>10)
		if grown >= 32<<20 {
			t.Errorf("%s: bodies of 100 MB took %d MB of memory", proto, grown>>20)
		}
	}
}
