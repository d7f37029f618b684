package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// endless is an agent that streams: first at once, then a part for each receive from next, until its caller leaves.
// X-Cut makes it break off instead.
func endless(kind, first string, next <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", kind)
		flush(w, first)
		for {
			select {
			case part := <-next:
				if part == "" {
					panic(http.ErrAbortHandler)
				}
				flush(w, part)
			case <-r.Context().Done():
				return
			}
		}
	}
}

// TestField_ProbesThatStreamCloseTheBreaker is row G1, and half of H2: OmniRoute 13836 and nora 607. Three endless
// sessions are the probes of a round.
func TestField_ProbesThatStreamCloseTheBreaker(t *testing.T) {
	t.Parallel()
	const settle = `"probe_settle_seconds":0.1`
	const chunk = `data: {"choices":[{"delta":{"content":"Hel"}}]}` + "\n\n"
	rows := []struct{ name, kind, fields, first string }{
		{"sse", "text/event-stream", "", "data: 1\n\n"},
		{"ndjson", "application/x-ndjson", "", `{"a":1}` + "\n"},
		{"llm", "text/event-stream", asLLM, chunk},
		{"auto", "text/event-stream", asAuto, chunk},
		{"mcp", "text/event-stream", asMCP, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"},
		{"plain", "text/plain", "", "a log line\n"},
		{"bytes", "application/octet-stream", asMCP, "\x00\x01"},
		{"multipart", "multipart/x-mixed-replace; boundary=x", "", "--x\r\n"},
		{"late-data", "text/event-stream", "", ": ping\n\ndata: 1\n\n"},
	}
	next, silence := map[string]chan string{}, make(chan string)
	var agents []fieldAgent
	for _, row := range rows {
		next[row.name] = make(chan string)
		agents = append(agents, fieldAgent{name: row.name, serve: endless(row.kind, row.first, next[row.name]), fields: row.fields, policy: settle})
	}
	agents = append(agents,
		fieldAgent{name: "comments", serve: endless("text/event-stream", ": ping\n\n", silence), policy: settle},
		fieldAgent{name: "patient", serve: endless("text/event-stream", "data: 1\n\n", nil), policy: `"probe_settle_seconds":600`},
		fieldAgent{name: "in-error", serve: endless("text/event-stream", `data: {"error":{"code":503,"message":"m"}}`+"\n\n", nil), fields: asLLM, policy: settle})
	f := inFront(t, nil, agents...)

	open := func(name, first string) (streams []*stream) {
		f.halfOpen(name)
		for range 3 {
			s := f.open(name, "/run")
			s.want(first)
			streams = append(streams, s)
		}
		return streams
	}
	// None of these settles: comments are no data, the other's time has not come.
	silent := open("comments", ": ping\n\n")
	open("patient", "data: 1\n\n")
	for _, name := range []string{"comments", "patient"} {
		r := f.post(name, "/other").refused("HALF_OPEN", "probes_busy")
		if wait := r.header.Get("Retry-After"); len(wait) > 2 {
			t.Errorf("%s: retry-after %s counts a lease that is being renewed", name, wait)
		}
	}
	for _, row := range rows {
		streams := open(row.name, row.first)
		f.awaitState(row.name, "CLOSED")
		next[row.name] <- "more" // a later call finds the breaker closed, and the streams go on
		got := make(chan string, 3)
		for _, s := range streams {
			go func() {
				part := make([]byte, 4)
				_, _ = io.ReadFull(s.res.Body, part)
				got <- string(part)
			}()
		}
		if part := <-got; part != "more" {
			t.Errorf("%s: the stream has %q", row.name, part)
		}
		other := f.open(row.name, "/other")
		other.want(row.first)
		other.leave()
		for _, s := range streams {
			s.leave()
		}
		f.wantState(row.name, "CLOSED")
	}
	f.wantState("comments", "HALF_OPEN")
	f.wantState("patient", "HALF_OPEN")
	for range silent {
		silence <- "data: 1\n\n"
	}
	for _, s := range silent {
		s.want("data: 1\n\n")
	}
	f.awaitState("comments", "CLOSED")

	f.halfOpen("in-error")
	f.open("in-error", "/run").want("data: {")
	f.awaitState("in-error", "OPEN") // the first data is an error
}

// TestField_ABreakAfterTheSettlingIsLate is the other half of row G1.
func TestField_ABreakAfterTheSettlingIsLate(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	f := inFront(t, nil,
		fieldAgent{name: "breaks", serve: endless("text/event-stream", "data: 1\n\n", next), policy: `"probe_settle_seconds":0.05`},
		fieldAgent{name: "breaks-soon", serve: endless("text/event-stream", "data: 1\n\n", next), policy: `"probe_settle_seconds":600`})
	for _, row := range []struct{ name, during, after string }{{"breaks", "CLOSED", "CLOSED"}, {"breaks-soon", "HALF_OPEN", "OPEN"}} {
		f.halfOpen(row.name)
		var streams []*stream
		for range 3 {
			s := f.open(row.name, "/run")
			s.want("data: 1\n\n")
			streams = append(streams, s)
		}
		f.awaitState(row.name, row.during)
		for range streams {
			next <- ""
		}
		for _, s := range streams {
			if rest, err := io.ReadAll(s.res.Body); err == nil {
				t.Errorf("%s: a stream that broke looks complete: %q", row.name, rest)
			}
		}
		f.awaitState(row.name, row.after)
	}
}

// TestField_UploadsHoldNoProbe is the other half of row H2: three uploads of one byte at a time are a round's probes.
func TestField_UploadsHoldNoProbe(t *testing.T) {
	t.Parallel()
	early := func(w http.ResponseWriter, r *http.Request) { // answers while it reads
		_ = http.NewResponseController(w).EnableFullDuplex()
		flush(w, "")
		_, _ = io.Copy(io.Discard, r.Body)
	}
	const policy = `"probe_timeout_seconds":0.3,"half_open_max_calls":3`
	f := inFront(t, nil,
		fieldAgent{name: "chunked", serve: answer(200, "ok"), policy: policy},
		fieldAgent{name: "length", serve: answer(200, "ok"), policy: policy},
		fieldAgent{name: "rpc", serve: answerJSON(`{}`), fields: asRPC, policy: policy},
		fieldAgent{name: "silent", serve: answer(200, "ok"), policy: policy},
		fieldAgent{name: "early", serve: early, policy: policy},
		fieldAgent{name: "h2", serve: answer(200, "ok"), policy: policy})
	for _, name := range []string{"chunked", "length", "rpc", "silent", "early", "h2"} {
		f.halfOpen(name)
		var protocols http.Protocols
		protocols.SetHTTP1(name != "h2")
		protocols.SetUnencryptedHTTP2(name == "h2")
		transport := &http.Transport{Protocols: &protocols}
		t.Cleanup(transport.CloseIdleConnections)
		var uploads []*io.PipeWriter
		ended := make(chan error, 3)
		for range 3 {
			out, in := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.at(name, "/upload"), out)
			if err != nil {
				t.Fatal(err)
			}
			if name == "length" {
				req.ContentLength = 1000
			}
			go func() {
				res, err := transport.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					err = errors.Join(err, res.Body.Close())
					if res.StatusCode != http.StatusOK {
						err = errors.Join(err, errors.New(res.Status))
					}
				}
				ended <- err
			}()
			uploads = append(uploads, in)
			if _, err := io.WriteString(in, "x"); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, name+": three probes", endTimeout, func() error {
			if live := f.breakerOf(name, "probes.live"); live != 3.0 {
				return fmt.Errorf("%v are live", live)
			}
			return nil
		})
		sent := 1
		testkit.Eventually(t, name+": the round to be anybody's", endTimeout, func() error {
			if name != "silent" && sent < 1000 {
				sent++
				for _, in := range uploads {
					_, _ = io.WriteString(in, "x")
				}
			}
			if r := f.call(http.MethodGet, "/agents/"+name+"/other", ""); r.status != http.StatusOK {
				return errors.New(string(r.body))
			}
			return nil
		})
		testkit.Eventually(t, name+" to be CLOSED", endTimeout, func() error {
			f.call(http.MethodGet, "/agents/"+name+"/other", "")
			if got := f.state(name); got != "CLOSED" {
				return errors.New(got)
			}
			return nil
		})
		rest := strings.Repeat("x", 1000-sent)
		for _, in := range uploads {
			if name == "length" || name == "chunked" {
				_, _ = io.WriteString(in, rest)
			}
			_ = in.Close()
		}
		for range uploads { // the calls go on, and are answered
			if err := <-ended; err != nil {
				t.Errorf("%s: the upload ended with %v", name, err)
			}
		}
		f.wantState(name, "CLOSED")
	}
}

// tunnel upgrades to a WebSocket, without its frames, and returns what the agent then sends until it ends.
func (f *field) tunnel(agent, first string) (sent string, err error) {
	f.t.Helper()
	conn := dial(f.t, f.addr)
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "GET /agents/%s/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", agent, f.addr)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil) //nolint:bodyclose // it is closed
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(res.Body)
		return "", fmt.Errorf("%s: %s", res.Status, text)
	}
	_, _ = io.WriteString(conn, first)
	text, err := io.ReadAll(in)
	if errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset") {
		err = nil
	}
	return string(text), err
}

// switches is an agent that upgrades, and then does with the connection.
func switches(do func(net.Conn, *bufio.ReadWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		do(conn, rw)
	}
}

// TestField_ATunnelThatIsDroppedAtOnceIsAFailure is row G19: traefik 452.
func TestField_ATunnelThatIsDroppedAtOnceIsAFailure(t *testing.T) {
	t.Parallel()
	reset := func(conn net.Conn, _ *bufio.ReadWriter) { _ = conn.(*net.TCPConn).SetLinger(0) }
	drop := func(net.Conn, *bufio.ReadWriter) {}
	afterRead := func(_ net.Conn, rw *bufio.ReadWriter) { _, _ = rw.ReadString('\n') }
	half := func(conn net.Conn, rw *bufio.ReadWriter) {
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, rw)
	}
	speaks := func(conn net.Conn, _ *bufio.ReadWriter) { _, _ = io.WriteString(conn, "hello") }
	echo := func(conn net.Conn, rw *bufio.ReadWriter) {
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, line)
	}
	const settle = `"probe_settle_seconds":30`
	f := inFront(t, nil,
		fieldAgent{name: "drop", serve: switches(drop), policy: settle}, fieldAgent{name: "reset", serve: switches(reset), policy: settle},
		fieldAgent{name: "after-read", serve: switches(afterRead), policy: settle}, fieldAgent{name: "half", serve: switches(half), policy: settle},
		fieldAgent{name: "mcp", serve: switches(drop), fields: asMCP, policy: settle},
		fieldAgent{name: "speaks", serve: switches(speaks), policy: settle}, fieldAgent{name: "echo", serve: switches(echo), policy: settle},
		fieldAgent{name: "stands", serve: switches(func(_ net.Conn, rw *bufio.ReadWriter) { _, _ = io.Copy(io.Discard, rw) }), policy: `"probe_settle_seconds":0.1`})
	for _, name := range []string{"drop", "reset", "after-read", "half", "mcp"} {
		for range 5 {
			if sent, err := f.tunnel(name, "frame\n"); sent != "" || err != nil {
				t.Errorf("%s: the tunnel has %q, %v", name, sent, err)
			}
		}
		f.awaitEnded(name, 5, "failure")
		f.wantState(name, "OPEN")
		f.halfOpen(name)
		if _, err := f.tunnel(name, "frame\n"); err != nil {
			t.Errorf("%s, half-open: %v", name, err)
		}
		f.awaitState(name, "OPEN")
	}
	for name, want := range map[string]string{"speaks": "hello", "echo": "frame\n"} {
		f.halfOpen(name)
		for range 3 {
			if sent, err := f.tunnel(name, "frame\n"); sent != want || err != nil {
				t.Errorf("%s: the tunnel has %q, %v", name, sent, err)
			}
		}
		f.awaitState(name, "CLOSED")
	}
	// A tunnel that stands is a probe that has succeeded, though nobody has said a word.
	f.halfOpen("stands")
	done := make(chan error, 3)
	var conns []net.Conn
	for range 3 {
		conn := dial(t, f.addr)
		conns = append(conns, conn)
		_, _ = fmt.Fprintf(conn, "GET /agents/stands/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", f.addr)
		go func() { _, err := io.Copy(io.Discard, conn); done <- err }()
	}
	f.awaitState("stands", "CLOSED")
	select {
	case err := <-done:
		t.Errorf("a tunnel ended: %v", err)
	default:
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// TestField_TheFirstTokenIsTheAnswer is row G11: CLIProxyAPI 2447 and model-hotel 60. The header comes at once, the first
// token late or never.
func TestField_TheFirstTokenIsTheAnswer(t *testing.T) {
	t.Parallel()
	late := func(kind, before string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", kind)
			flush(w, before)
			select {
			case <-time.After(400 * time.Millisecond): // the agent's slowness is the input
			case <-r.Context().Done():
				return
			}
			flush(w, "data: {\"x\":1}\n\n", "data: [DONE]\n\n")
		}
	}
	pings := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		flush(w, "")
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-tick.C:
				flush(w, ": ping\n\n")
			case <-r.Context().Done():
				tick.Stop()
				return
			}
		}
	}
	dataThenPings := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		flush(w, "data: 1\n\n")
		pings(w, r)
	}
	never := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		flush(w, "")
		<-r.Context().Done()
	}
	const slow = `"slow_call_duration_seconds":0.3,"slow_call_rate_threshold":0.5,"minimum_calls":3`
	const sse = "text/event-stream"
	f := inFront(t, nil,
		fieldAgent{name: "slow", serve: late(sse, ""), policy: slow},
		fieldAgent{name: "slow-pings", serve: late(sse, ": ping\n\n: ping\n\n"), policy: slow},
		fieldAgent{name: "slow-llm", serve: late(sse, ""), fields: asLLM, policy: slow},
		fieldAgent{name: "slow-ndjson", serve: late("application/x-ndjson", ""), policy: slow},
		fieldAgent{name: "slow-plain", serve: late("text/plain", ""), policy: slow},
		fieldAgent{name: "pings", serve: pings, fields: `"timeout_seconds":0.4`},
		fieldAgent{name: "pings-llm", serve: pings, fields: asLLM + `,"timeout_seconds":0.4`},
		fieldAgent{name: "data-then-pings", serve: dataThenPings, fields: `"timeout_seconds":0.4`},
		fieldAgent{name: "never", serve: never, fields: `"first_token_timeout_seconds":0.3`},
		fieldAgent{name: "never-llm", serve: never, fields: asLLM + `,"first_token_timeout_seconds":0.3`},
		fieldAgent{name: "pings-token", serve: pings, fields: `"first_token_timeout_seconds":0.3`})
	slows := []string{"slow", "slow-pings", "slow-llm", "slow-ndjson", "slow-plain"}
	errs := make(chan error)
	for _, name := range slows {
		for range 3 {
			go func() {
				r, err := f.try(http.MethodPost, "/agents/"+name+"/run", `{}`)
				if err == nil && r.status != http.StatusOK {
					err = fmt.Errorf("%s: status %d: %s", name, r.status, r.body)
				}
				errs <- err
			}()
		}
	}
	for range 3 * len(slows) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, name := range slows {
		f.awaitState(name, "OPEN")
		if reason, _ := f.breakerOf(name, "reason").(string); !strings.Contains(reason, "slow") {
			t.Errorf("%s opened for the reason %q", name, reason)
		}
	}
	stalls := []string{"pings", "pings-llm", "data-then-pings", "never", "never-llm", "pings-token"}
	streams := map[string][]*stream{}
	for range 5 {
		for _, name := range stalls {
			streams[name] = append(streams[name], f.open(name, "/run"))
		}
	}
	for _, name := range stalls {
		for _, s := range streams[name] {
			if _, err := io.Copy(io.Discard, s.res.Body); err == nil && s.res.StatusCode == http.StatusOK {
				t.Errorf("%s: a stream that stalled looks complete", name)
			}
		}
		f.awaitEnded(name, 5, "failure")
		f.wantState(name, "OPEN")
	}
	await(f.daemon, `bridge_upstream_header_seconds_count{agent="slow"} 3`, `bridge_upstream_first_byte_seconds_count{agent="slow"} 3`,
		`bridge_upstream_first_byte_seconds_bucket{agent="slow",le="0.25"} 0`)
}

// TestField_CallsThatNobodyWaitedForCount is row G2: envoy 41985 and 288. The callers of an agent that answers nobody
// leave before its time-out.
func TestField_CallsThatNobodyWaitedForCount(t *testing.T) {
	t.Parallel()
	const patience = `"abandoned_seconds":0.3`
	longer := func() { time.Sleep(400 * time.Millisecond) } // how long the callers wait is the input
	arrived := make(chan struct{}, 100)
	agents := []fieldAgent{
		{name: "hangs", serve: hangs(arrived), policy: patience},
		{name: "hangs-mcp", serve: hangs(arrived), fields: asMCP, policy: patience},
		{name: "upload", serve: hangs(arrived), policy: patience},
		{name: "stream", serve: hangs(arrived), policy: patience},
		{name: "tunnel", serve: hangs(arrived), policy: patience},
		{name: "half", serve: hangs(arrived), policy: patience + `,"half_open_max_calls":1`},
		{name: "soon", serve: hangs(arrived), policy: `"abandoned_seconds":600`},
		{name: "off", serve: hangs(arrived)},
	}
	// partly answers GET, and hangs at POST.
	partly := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "ok")
			return
		}
		hangs(arrived)(w, r)
	}
	agents = append(agents, fieldAgent{name: "partly", serve: partly, policy: patience})
	f := inFront(t, nil, agents...)
	for _, row := range []struct {
		name, body string
		header     []string
	}{
		{"hangs", `{}`, nil},
		{"hangs-mcp", `{}`, nil},
		{"upload", strings.Repeat("x", 300_000), nil},
		{"stream", "", []string{"Accept", "text/event-stream"}},
	} {
		f.leave(row.name, 5, row.body, arrived, longer, row.header...)
		f.awaitEnded(row.name, 5, "failure")
		f.wantState(row.name, "OPEN")
	}
	var conns []net.Conn
	for range 5 {
		conn := dial(t, f.addr)
		conns = append(conns, conn)
		_, _ = fmt.Fprintf(conn, "GET /agents/tunnel/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", f.addr)
		<-arrived
	}
	longer()
	for _, conn := range conns {
		_ = conn.Close()
	}
	f.awaitEnded("tunnel", 5, "failure")
	f.wantState("tunnel", "OPEN")

	// In half-open the probe goes on without its caller, until the round has a verdict.
	f.halfOpen("half")
	f.leave("half", 1, `{}`, arrived, nil)
	f.awaitState("half", "OPEN")

	for _, name := range []string{"soon", "off"} {
		f.leave(name, 6, `{}`, arrived, nil)
		f.awaitEnded(name, 6, "ignored cancelled")
		f.wantState(name, "CLOSED")
	}

	// Bytes of the agent that came meanwhile say that it lives.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered atomic.Int64
	go func() {
		for ctx.Err() == nil {
			if r, err := f.try(http.MethodGet, "/agents/partly/", ""); err == nil && r.status == http.StatusOK {
				answered.Add(1)
			}
		}
	}()
	f.leave("partly", 6, `{}`, arrived, func() {
		before := answered.Load()
		longer()
		testkit.Eventually(t, "an answer", endTimeout, func() error {
			if answered.Load() < before+2 { // the first may have been sent before
				return errors.New("there is none")
			}
			return nil
		})
	})
	f.wantState("partly", "CLOSED")
	if v := f.breakerOf("partly", "totals.failures"); v != 0.0 {
		t.Errorf("%v calls of an agent that answers others were counted", v)
	}
}

// TestField_AProbeGoesOnWithoutItsCaller: the agent answers after the caller has left, and the round has its verdict.
func TestField_AProbeGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 1), make(chan int)
	late := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		select {
		case status := <-release:
			w.WriteHeader(status)
		case <-r.Context().Done():
		}
	}
	const policy = `"half_open_max_calls":1,"abandoned_seconds":600`
	f := inFront(t, nil, fieldAgent{name: "late", serve: late, policy: policy}, fieldAgent{name: "late-rpc", serve: late, fields: asRPC, policy: policy},
		fieldAgent{name: "late-error", serve: late, policy: policy})
	for name, row := range map[string]struct {
		status int
		state  string
	}{"late": {204, "CLOSED"}, "late-rpc": {200, "CLOSED"}, "late-error": {500, "OPEN"}} {
		f.halfOpen(name)
		f.leave(name, 1, `{}`, arrived, nil)
		f.wantState(name, "HALF_OPEN")
		select {
		case release <- row.status:
		case <-time.After(endTimeout):
			t.Fatalf("%s: the probe left with its caller", name)
		}
		f.awaitState(name, row.state)
	}
}
