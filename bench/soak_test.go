package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

var soakFor = flag.Duration("soak", 2*time.Second, "the length of TestSoak, which can tell from 30s on whether a figure grows")

// TestSoak runs a fleet in this process, over a Redis that is killed once and whose connections are cut. Afterwards
// every count must be right, nothing may have grown, and nothing may be left. `make soak` runs it for ten minutes.
func TestSoak(t *testing.T) {
	redisstore.SetClientLogger(slog.New(slog.DiscardHandler)) // go-redis logs every connection that is cut
	s := newSoak(newSoakPlan(*soakFor))
	before := footprint()
	var samples []soakSample
	t.Run("fleet", func(t *testing.T) { samples = s.run(t) })
	s.leavesNothing(before)
	t.Logf("\n%s", s.judge(samples))
	if len(s.faults) > 0 {
		t.Errorf("the soak found:\n%s", strings.Join(s.faults, "\n"))
	}
}

// soakPlan is the length of a soak and its load.
type soakPlan struct {
	lasts          time.Duration
	cached, strict int           // replicas
	tracked        int           // agents at a time that are called for seconds and whose counts are compared
	hot            int           // those of them that are also called in bursts
	calls, bursts  int           // a second
	oneOff         int           // agents a second that are called once, and whose keys expire
	agents         int           // MAX_AGENTS, so few that what it bounds is full at once
	ttl            time.Duration // of the keys
	life           time.Duration // the longest that a tracked agent is called
}

// newSoakPlan makes a million names in ten minutes.
func newSoakPlan(lasts time.Duration) soakPlan {
	return soakPlan{
		lasts: lasts, cached: 2, strict: 1, tracked: min(max(int(25*lasts.Seconds()), 200), 2000), hot: 16,
		calls: 8000, bursts: 2000, oneOff: 1400, agents: 5000,
		ttl: min(max(lasts/10, 3*time.Second), 10*time.Second), life: min(max(lasts/3, time.Second), 8*time.Second),
	}
}

// soak is one run.
type soak struct {
	soakPlan

	server     *redisServer
	fleet      []*soakReplica
	accounts   *accounts
	slots      []atomic.Pointer[trackedAgent]
	began      time.Time
	outages    atomic.Int64 // twice the outages of Redis, odd during one; an outage loses all counts
	names      atomic.Int64
	exact      atomic.Int64 // tracked agents whose counts were those of Redis
	within     atomic.Int64 // the same up to outcomes that are unknown
	lost       atomic.Int64 // tracked agents that an outage met
	expired    atomic.Int64 // tracked agents without a record for most of the TTL
	manual     atomic.Int64 // manual actions, overrides and reads of an operator
	overrides  atomic.Int64
	cuts       atomic.Int64 // how often all connections were cut
	faultsLock sync.Mutex
	faults     []string
}

func newSoak(plan soakPlan) *soak {
	return &soak{
		soakPlan: plan, accounts: newAccounts(), slots: make([]atomic.Pointer[trackedAgent], plan.tracked),
	}
}

const soakFaultsKept = 20

// faultf records what must not happen.
func (s *soak) faultf(format string, args ...any) {
	s.faultsLock.Lock()
	defer s.faultsLock.Unlock()
	if len(s.faults) < soakFaultsKept {
		s.faults = append(s.faults, fmt.Sprintf(format, args...))
	}
}

// run runs the fleet from its start until it is closed.
func (s *soak) run(t *testing.T) (samples []soakSample) {
	s.server = startRedis(t)
	defer s.closeFleet(t)
	s.expireActively(t)
	s.startFleet(t)
	for i := range s.slots {
		s.slots[i].Store(s.newTracked(time.Now()))
	}
	working, stop := context.WithCancel(t.Context())
	defer stop()
	s.began = time.Now()
	var tasks sync.WaitGroup
	for _, task := range append(s.load(), s.operate) {
		tasks.Go(func() { task(working) })
	}
	tasks.Go(func() { samples = s.sampleUntil(working) })
	s.disturb(working, t)
	for !s.done() && pause(working, 10*time.Millisecond) {
		continue
	}
	stop()
	tasks.Wait()
	s.settleAll(t.Context())
	return samples
}

// done reports whether the time is over and everything that must happen has happened, for which a busy machine gets a
// minute more.
func (s *soak) done() bool {
	more := time.Since(s.began) - s.lasts
	return more >= 0 && (more > time.Minute || !slices.ContainsFunc(s.counters(), soakCounter.missing))
}

// disturb cuts every connection now and then, and kills Redis once, which keeps nothing. The kit wants the test's own
// goroutine for that.
func (s *soak) disturb(working context.Context, t *testing.T) {
	for _, at := range []float64{0.12, 0.25, 0.45, 0.58, 0.75, 0.88} {
		if !pause(working, time.Until(s.began.Add(time.Duration(at*float64(s.lasts))))) {
			return
		}
		if at == 0.25 {
			s.outage(t)
			continue
		}
		for _, kind := range []string{"normal", "pubsub"} {
			err := s.server.client.ClientKillByFilter(working, "TYPE", kind, "SKIPME", "yes").Err()
			if err != nil && working.Err() == nil {
				s.faultf("connections of type %s not cut: %v", kind, err)
			}
		}
		s.cuts.Add(1)
	}
}

// pause waits for d. It returns false if ctx has ended.
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

// outage kills Redis, starts it again on the same port, and waits until every replica asks it again.
func (s *soak) outage(t *testing.T) {
	s.outages.Add(1)
	s.server.Kill()
	pause(t.Context(), min(s.lasts/20, time.Second))
	s.server.Restart()
	s.expireActively(t)
	testkit.Eventually(t, "the fleet to use Redis again", time.Minute, func() error {
		for i, r := range s.fleet {
			if r.fallback.Degraded() {
				return fmt.Errorf("replica %d is degraded", i)
			}
		}
		return nil
	})
	s.outages.Add(1)
}

// expireActively has Redis look for expired keys as often as it can. By default up to a quarter of its keys may have
// expired.
func (s *soak) expireActively(t *testing.T) {
	c := s.server.client
	err := errors.Join(c.ConfigSet(t.Context(), "hz", "100").Err(), c.ConfigSet(t.Context(), "active-expire-effort", "10").Err())
	if err != nil {
		t.Fatal(err)
	}
}

// handles is what a process holds.
type handles struct{ goroutines, files int }

// footprint counts the handles, without the files of Go's own network poller. Without /proc it counts no files.
func footprint() handles {
	const dir = "/proc/self/fd"
	h := handles{goroutines: runtime.NumGoroutine()}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && !strings.HasPrefix(to, "anon_inode:") {
			h.files++
		}
	}
	return h
}

// leavesNothing waits five seconds for the last goroutines and files of the fleet to go.
func (s *soak) leavesNothing(before handles) {
	var now handles
	for end := time.Now().Add(5 * time.Second); ; {
		now = footprint()
		if now.goroutines <= before.goroutines && now.files <= before.files {
			return
		}
		if time.Now().After(end) {
			break
		}
		pause(context.Background(), 20*time.Millisecond)
	}
	s.faultf("after Close: %d goroutines and %d open files, before the fleet %d and %d",
		now.goroutines, now.files, before.goroutines, before.files)
}
