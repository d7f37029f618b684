// Caller is a client of the Swarm stack: it calls bridge and breakerd without a pause, tries nothing twice, and writes
// down which answers were wrong. It runs in a container, where the stack's names are known.
//
//	caller load                   calls until SIGTERM, and keeps its report in /out/report.json
//	caller METHOD URL [BODY]      makes one call, and prints status and body
//
// TOKEN is sent with every call.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	bridge   = "http://bridge:8000"
	breakerd = "http://breakerd:18180"

	pace       = 40 * time.Millisecond // of one client
	saveEvery  = 100 * time.Millisecond
	timeout    = 15 * time.Second
	kept       = 20 // wrong answers in the report
	reportFile = "/out/report.json"
)

// Report is what the caller has seen so far.
type Report struct {
	Calls    int      `json:"calls"`
	Degraded int      `json:"degraded"` // answers that were given without Redis
	Slowest  int64    `json:"slowest_ms"`
	Slow     string   `json:"slow"` // the slowest call
	Wrong    int      `json:"wrong"`
	Samples  []string `json:"samples"` // of wrong answers
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch {
	case len(args) == 1 && args[0] == "load":
		return load(ctx)
	case len(args) == 2:
		return once(ctx, args[0], args[1], "")
	case len(args) == 3:
		return once(ctx, args[0], args[1], args[2])
	}
	return errors.New("want load | METHOD URL [BODY]")
}

// caller is all of the clients together.
type caller struct {
	client *http.Client

	mu     sync.Mutex
	report Report
}

func newCaller() *caller {
	// By default Transport keeps connections, and dials the next address of a name when one refuses.
	return &caller{client: &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
}

func once(ctx context.Context, method, url, body string) error {
	status, text, err := newCaller().send(ctx, method, url, body)
	if err == nil {
		fmt.Printf("%d\n%s", status, text)
	}
	return err
}

func load(ctx context.Context) error {
	c := newCaller()
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { every(ctx, func(turn int) { c.callBridge(turn + i) }) })
	}
	clients.Go(func() { every(ctx, c.callBreakerd) })
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for ctx.Err() == nil {
		select {
		case <-save.C:
		case <-ctx.Done():
		}
		if err := c.save(); err != nil {
			return err
		}
	}
	clients.Wait()
	return c.save()
}

func every(ctx context.Context, call func(turn int)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for turn := 0; ctx.Err() == nil; turn++ {
		call(turn)
		<-tick.C
	}
}

// save replaces the report.
func (c *caller) save() error {
	c.mu.Lock()
	text, err := json.Marshal(c.report)
	c.mu.Unlock()
	return errors.Join(err, os.WriteFile(reportFile+".new", text, 0o600), os.Rename(reportFile+".new", reportFile))
}

// callBridge makes one of four calls: two of an agent that works and two of one whose breaker is open.
func (c *caller) callBridge(turn int) {
	switch turn % 4 {
	case 0:
		c.want(http.StatusOK, "", http.MethodGet, bridge+"/agents/HealthyAgent/", "")
	case 1:
		c.want(http.StatusTooManyRequests, "open", http.MethodGet, bridge+"/agents/FailingAgent/", "")
	case 2:
		c.want(http.StatusOK, "", http.MethodPost, bridge+"/agents/HealthyAgent/", `{"text":"test"}`)
	default:
		path := "/api/v1/workflows/circuit-breaker-test/execute"
		c.want(http.StatusServiceUnavailable, "open", http.MethodPost, bridge+path, `{"input":{}}`)
	}
}

// callBreakerd asks for a permit: of an agent whose breaker is open, or of another, whose outcome it reports.
func (c *caller) callBreakerd(turn int) {
	const agents = breakerd + "/v1/circuit_breakers/"
	if turn%2 == 0 {
		c.want(http.StatusTooManyRequests, "open", http.MethodPost, agents+"FailingAgent/acquire", "")
		return
	}
	answer := c.want(http.StatusOK, "", http.MethodPost, agents+"Worker/acquire", "")
	if permit, ok := answer["permit"].(string); ok {
		body := fmt.Sprintf(`{"permit":%q,"outcome":"success"}`, permit)
		c.want(http.StatusOK, "", http.MethodPost, agents+"Worker/report", body)
	}
}

// want makes a call, records it, and returns its answer, an empty one if that is wrong.
func (c *caller) want(status int, reason, method, url, body string) map[string]any {
	begin := time.Now()
	// The load's own end cancels no call.
	got, text, err := c.send(context.Background(), method, url, body)
	took := time.Since(begin)
	answer := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err == nil && (got != status || reason != "" && answer["reason"] != reason) {
		err = fmt.Errorf("status %d, want %d %s: %s", got, status, reason, text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Calls++
	if ms := took.Milliseconds(); ms > c.report.Slowest {
		c.report.Slowest, c.report.Slow = ms, fmt.Sprintf("%s %s %s", begin.Format(time.TimeOnly), method, url)
	}
	if answer["degraded"] == true {
		c.report.Degraded++
	}
	if err == nil {
		return answer
	}
	c.report.Wrong++
	if len(c.report.Samples) < kept {
		c.report.Samples = append(c.report.Samples,
			fmt.Sprintf("%s %s %s after %v: %v", begin.Format(time.TimeOnly), method, url, took, err))
	}
	return nil
}

func (c *caller) send(ctx context.Context, method, url, body string) (status int, text []byte, err error) {
	var r io.Reader = http.NoBody
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r) //nolint:gosec // the test says what to call
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Breaker-Token", os.Getenv("TOKEN"))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return 0, nil, err
	}
	text, err = io.ReadAll(res.Body)
	return res.StatusCode, bytes.TrimSpace(text), errors.Join(err, res.Body.Close())
}
