package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// replica is one breakerd, with what its callers and its scrapes have seen of it.
type replica struct {
	*testkit.Process
	ledger

	t      testing.TB
	id     string
	addr   string
	client *http.Client
	begun  resources

	mu      sync.Mutex
	last    sample   // the last scrape
	scrapes int      // that were compared
	most    float64  // unsent outcomes
	off     []string // scrapes whose sum was wrong
}

const (
	startTimeout = 30 * time.Second // a race-detecting binary on a busy machine
	endTimeout   = 20 * time.Second
)

func startReplica(t testing.TB, id, redisURL, consistency string) *replica {
	t.Helper()
	r := &replica{t: t, id: id, ledger: newLedger()}
	r.Process = testkit.Run(t, []string{breakerd}, []string{
		"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10", "BREAKERD_LISTEN=127.0.0.1:0", "LOG_FORMAT=json",
		"REDIS_URL=" + redisURL, "REPLICA_ID=" + id, "REDIS_TIMEOUT_MS=250",
		"CIRCUIT_BREAKER_CONSISTENCY=" + consistency, "CIRCUIT_BREAKER_TIMEOUT_SECONDS=1",
		"CIRCUIT_BREAKER_PROBE_TIMEOUT_SECONDS=3",
	})
	listening := regexp.MustCompile(`"msg":"listening".*"address":"([^"]+)"`)
	testkit.Eventually(t, id+" to listen", startTimeout, func() error {
		m := listening.FindStringSubmatch(r.Stderr())
		if m == nil {
			return fmt.Errorf("it said %s", r.Stderr())
		}
		r.addr = m[1]
		return nil
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	r.client = &http.Client{Transport: transport, Timeout: callTimeout}
	t.Cleanup(transport.CloseIdleConnections)
	return r
}

// resources is what a process holds.
type resources struct{ goroutines, megabytes int }

// holds reads what the replica holds now.
func (r *replica) holds() (resources, error) {
	s, err := r.scrape(r.t.Context())
	if err != nil {
		return resources{}, err
	}
	return resources{int(s["go_goroutines"]), int(s["process_resident_memory_bytes"]) >> 20}, nil
}

// sample is one scrape: value by series.
type sample map[string]float64

func (r *replica) scrape(ctx context.Context) (sample, error) {
	body, err := r.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	s := sample{}
	for in := bufio.NewScanner(strings.NewReader(body)); in.Scan(); {
		at := strings.LastIndexByte(in.Text(), ' ')
		if at < 0 || strings.HasPrefix(in.Text(), "#") {
			continue
		}
		if s[in.Text()[:at]], err = strconv.ParseFloat(in.Text()[at+1:], 64); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// sum adds the series of a metric.
func (s sample) sum(metric string) (n float64) {
	for series, v := range s {
		if strings.HasPrefix(series, metric+"{") {
			n += v
		}
	}
	return n
}

// settledAs is the number of outcomes that ended so.
func (s sample) settledAs(as string) float64 { return s[settledTotal+`{as="`+as+`"}`] }

const settledTotal = "circuit_breaker_outcomes_settled_total"

func (s sample) taken() float64  { return s["circuit_breaker_outcomes_taken_total"] }
func (s sample) unsent() float64 { return s["circuit_breaker_unsent_outcomes"] }

// watch scrapes ten times a second until ctx ends, and compares each scrape's sum: what was taken has been settled, or
// waits [B26].
func (r *replica) watch(ctx context.Context) {
	for every := time.NewTicker(100 * time.Millisecond); ; {
		s, err := r.scrape(ctx)
		if err == nil {
			r.compare(s)
		} else if ctx.Err() == nil && !r.gone.Load() {
			r.faultf("a scrape failed: %v", err)
		}
		select {
		case <-ctx.Done():
			every.Stop()
			return
		case <-every.C:
		}
	}
}

func (r *replica) compare(s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.most = s, max(r.most, s.unsent())
	r.scrapes++
	if _, ok := s["circuit_breaker_outcomes_taken_total"]; !ok {
		r.off = append(r.off, "circuit_breaker_outcomes_taken_total is missing")
	}
	settled, lost := s.sum(settledTotal), s.sum("circuit_breaker_outcomes_lost_total")
	if settled+s.unsent() != s.taken() || lost != s.settledAs("lost") {
		r.off = append(r.off, fmt.Sprintf("taken %v, settled %v, unsent %v; lost %v, by why %v", s.taken(), settled,
			s.unsent(), s.settledAs("lost"), lost))
	}
}

func (r *replica) get(ctx context.Context, path string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+path, nil)
	if err != nil {
		return "", err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, text)
	}
	return string(text), err
}

// inStep returns nil if the replica uses Redis and shows these agents closed.
func (r *replica) inStep(ctx context.Context, agents ...string) error {
	var health struct {
		Checks struct {
			Redis struct {
				Degraded bool   `json:"degraded"`
				Status   string `json:"status"`
				Detail   string `json:"detail"`
			} `json:"redis"`
		} `json:"checks"`
	}
	text, err := r.get(ctx, "/health/checks")
	if err == nil {
		err = json.Unmarshal([]byte(text), &health)
	}
	switch redis := health.Checks.Redis; {
	case err != nil:
		return err
	case redis.Degraded, redis.Status != "healthy":
		return fmt.Errorf("%s is %s: degraded %v, %s", r.id, redis.Status, redis.Degraded, redis.Detail)
	}
	for _, agent := range agents {
		var b struct {
			State    string `json:"state"`
			Degraded bool   `json:"degraded"`
		}
		if text, err = r.get(ctx, adminPath+agent); err == nil {
			err = json.Unmarshal([]byte(text), &b)
		}
		if err != nil {
			return err
		}
		if b.State != "CLOSED" || b.Degraded {
			return fmt.Errorf("%s shows %s %s, degraded %v", r.id, agent, b.State, b.Degraded)
		}
	}
	return nil
}

// end sends SIGTERM and checks the run: exit code 0, no data race, no panic.
func (r *replica) end() {
	r.client.CloseIdleConnections()
	if r.Running() {
		r.Signal(syscall.SIGTERM)
		select {
		case <-r.Done():
			if code := r.ExitCode(); code != 0 {
				r.faultf("SIGTERM: exit code %d", code)
			}
		case <-time.After(endTimeout):
			r.faultf("it runs on, %v after SIGTERM", endTimeout)
		}
	}
	r.readLog()
}

// readLog looks for what no log may have.
func (r *replica) readLog() {
	for line := range strings.Lines(r.Stderr()) {
		for _, bad := range []string{"WARNING: DATA RACE", "panic", "goroutine "} {
			if strings.Contains(line, bad) {
				r.faultf("its log has %s", strings.TrimSpace(line))
			}
		}
	}
}

// kill ends it as a crash would.
func (r *replica) kill() {
	r.gone.Store(true)
	r.Signal(syscall.SIGKILL)
	<-r.Done()
	r.readLog()
}

// returns waits until the replica holds no more than it did at the start, but for slack.
func (r *replica) returns() (now resources, err error) {
	for end := time.Now().Add(5 * time.Second); ; {
		r.client.CloseIdleConnections()
		now, err = r.holds()
		if err == nil && now.goroutines > r.begun.goroutines+slackGoroutines {
			err = errors.New("more goroutines than before")
		}
		if err == nil && now.megabytes > r.begun.megabytes+slackMegabytes {
			err = errors.New("more memory than before")
		}
		if err == nil || time.Now().After(end) {
			return now, err
		}
		pause(r.t.Context(), 50*time.Millisecond)
	}
}

// pause waits for d, or until ctx ends; then it returns false.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// timers knows how late timers of this process are, which says how busy the machine is.
type timers struct{ latest atomic.Int64 }

// watch sets timers until ctx ends.
func (l *timers) watch(ctx context.Context) {
	const every = 10 * time.Millisecond
	for begin := time.Now(); pause(ctx, every); begin = time.Now() {
		l.latest.Store(max(l.latest.Load(), int64(time.Since(begin)-every)))
	}
}

// slack is how much more time is due: several processes and goroutines, each as late, make one answer.
func (l *timers) slack() time.Duration { return 4 * time.Duration(l.latest.Load()) }
