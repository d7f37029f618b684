package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// traffic is what clients that call without a pause have seen.
type traffic struct {
	stop    context.CancelFunc
	clients sync.WaitGroup

	mu       sync.Mutex
	calls    int
	degraded int
	first    time.Time // the first and the last degraded answer
	last     time.Time
	slowest  time.Duration
	errs     []error
}

// drive begins the traffic. Each client calls a healthy agent of its own through one replica after the other, and now
// and then acquires the agent that must stay refused.
func drive(t testing.TB, clients int, banned string, replicas ...*daemon) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{stop: cancel}
	t.Cleanup(tr.end)
	for i := range clients {
		tr.clients.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			agent := "Worker" + strconv.Itoa(i)
			for n := i; ctx.Err() == nil; n++ {
				d := replicas[n%len(replicas)]
				tr.work(d, replicas[(n+1)%len(replicas)], agent)
				if n%5 == 0 {
					tr.call(d, dataPath+banned+"/acquire", "", http.StatusTooManyRequests)
				}
				<-pace.C
			}
		})
	}
	return tr
}

// work is one call: acquire at one replica, report at the next.
func (tr *traffic) work(from, to *daemon, agent string) {
	if r, ok := tr.call(from, dataPath+agent+"/acquire", "", http.StatusOK); ok {
		tr.call(to, dataPath+agent+"/report", reportBody(r.text("permit"), "success"), http.StatusOK)
	}
}

func (tr *traffic) call(d *daemon, path, body string, want int) (reply, bool) {
	begin := time.Now()
	r, err := d.try(http.MethodPost, path, body)
	now := time.Now()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.calls++
	tr.slowest = max(tr.slowest, now.Sub(begin))
	switch {
	case err != nil:
		tr.errs = append(tr.errs, err)
		return r, false
	case r.status != want:
		tr.errs = append(tr.errs, fmt.Errorf("%s: status %d, want %d: %s", path, r.status, want, r.body))
		return r, false
	case r.get("degraded") == true:
		if tr.degraded++; tr.first.IsZero() {
			tr.first = now
		}
		tr.last = now
	}
	return r, true
}

func (tr *traffic) end() {
	tr.stop()
	tr.clients.Wait()
}

// replicated waits until both of the master's replicas have every write so far.
func replicated(t *testing.T, master *testkit.Server) {
	t.Helper()
	conn := master.Client(t).Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.Set(t.Context(), "marker", 1, 0).Err(); err != nil { // WAIT waits for its own connection's writes
		t.Fatal(err)
	}
	// WAIT may take longer than the client's own time-out.
	testkit.Eventually(t, "WAIT 2", 10*time.Second, func() error {
		if n, err := conn.Wait(t.Context(), 2, time.Second).Result(); err != nil || n < 2 {
			return fmt.Errorf("%d replicas, %w", n, err)
		}
		return nil
	})
}

func TestSentinel_FailoverUnderTraffic(t *testing.T) {
	t.Parallel()
	set := testkit.StartSentinel(t)
	env := []string{"REDIS_URL=" + set.URL(), "CIRCUIT_BREAKER_TIMEOUT_SECONDS=600"}
	a, b := start(t, env...), start(t, env...)
	const banned = "Tripped"
	a.run(banned, "failure", 5)
	b.acquire(banned).refused("OPEN", "open").has("degraded", nil)
	replicated(t, set.Master)

	tr := drive(t, 6, banned, a, b)
	testkit.Eventually(t, "traffic", startTimeout, func() error {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if tr.calls < 100 {
			return errors.New("hardly any calls")
		}
		return nil
	})
	killed := time.Now()
	set.Master.Kill()
	next := set.WaitFailover(t, set.Master.Addr)
	promoted := time.Now()
	for _, d := range []*daemon{a, b} {
		testkit.Eventually(t, "the replica to find the new master", 5*time.Second, func() error {
			if r := d.acquire("Fresh").want(http.StatusOK); r.get("degraded") != false {
				return errors.New("degraded")
			}
			return nil
		})
	}
	back := time.Since(promoted)
	for _, d := range []*daemon{a, b} {
		d.acquire(banned).refused("OPEN", "open").has("degraded", nil)
	}
	if got := redisCLI(t, next, "GET", "circuit_breaker:Tripped:state"); got != "open" {
		t.Errorf("an opening that both surviving replicas had is %q after the failover", got)
	}
	a.run("Fresh", "failure", 5)
	b.acquire("Fresh").refused("OPEN", "open")
	if got := redisCLI(t, next, "GET", "circuit_breaker:Fresh:state"); got != "open" {
		t.Errorf("what happens after the failover is not in Redis: %q", got)
	}
	tr.end()
	t.Logf("promoted %v after the kill, right again %v later; %d of %d answers degraded, for %v; the slowest took %v",
		promoted.Sub(killed).Round(time.Millisecond), back.Round(time.Millisecond), tr.degraded, tr.calls,
		tr.last.Sub(tr.first).Round(time.Millisecond), tr.slowest.Round(time.Millisecond))
	if tr.degraded == 0 {
		t.Error("no answer was degraded: the kill was not noticed")
	}
	if tr.slowest > 2*time.Second {
		t.Errorf("a call took %v", tr.slowest)
	}
	if len(tr.errs) > 0 {
		t.Errorf("%d of %d calls went wrong, the first: %v", len(tr.errs), tr.calls, tr.errs[0])
	}
}
