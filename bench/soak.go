package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// soakPlan says how long a soak lasts, and how much goes on meanwhile.
type soakPlan struct {
	lasts          time.Duration
	cached, strict int // replicas
	residents      int // agents that live for seconds, and are counted at their end
	hot            int // of them, which are called in bursts besides
	calls, bursts  int // a second
	visitors       int // agents a second that are called once, and left to expire
	agents         int // MAX_AGENTS: so few that what is bounded by it is full at once
	ttl            time.Duration
	life           time.Duration // of a resident, half of it to all
}

// newSoakPlan makes a million names in ten minutes.
func newSoakPlan(lasts time.Duration) soakPlan {
	return soakPlan{
		lasts: lasts, cached: 2, strict: 1, residents: min(max(int(25*lasts.Seconds()), 200), 2000), hot: 16,
		calls: 8000, bursts: 2000, visitors: 1400, agents: 5000,
		ttl: min(max(lasts/10, 3*time.Second), 10*time.Second), life: min(max(lasts/3, time.Second), 8*time.Second),
	}
}

// soak is a fleet at work in one process, over a Redis that is killed once.
type soak struct {
	soakPlan

	server    *redisServer
	fleet     []*soakReplica
	book      *ledger
	slots     []atomic.Pointer[resident]
	era       atomic.Int64 // odd while Redis is away; what was counted in an earlier one is gone
	began     time.Time
	names     atomic.Int64
	exact     atomic.Int64 // residents whose counts were those of Redis
	within    atomic.Int64 // likewise, up to the outcomes of which nobody knows
	lost      atomic.Int64 // residents that were there when Redis was killed
	expired   atomic.Int64 // residents that nobody called for too long
	handWork  atomic.Int64 // holds, resets, overrides
	overrides atomic.Int64
	cuts      atomic.Int64 // times that every connection was killed

	mu     sync.Mutex
	faults []string
}

const soakFaultsKept = 20

// faultf notes what must not be.
func (s *soak) faultf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) < soakFaultsKept {
		s.faults = append(s.faults, fmt.Sprintf(format, args...))
	}
}

// runSoak lets a fleet work, and tells in a table whether anything grew. The error says all that must not be.
func runSoak(ctx context.Context, plan soakPlan, out io.Writer) error {
	redisstore.SetClientLogger(slog.New(slog.DiscardHandler)) // go-redis tells of each connection that is cut
	before := footprint()
	server, err := startRedis(ctx)
	if err != nil {
		return err
	}
	s := &soak{soakPlan: plan, server: server, book: newLedger(), slots: make([]atomic.Pointer[resident], plan.residents), began: time.Now()}
	samples, err := s.run(ctx)
	server.close()
	if err != nil {
		return err
	}
	s.gone(before)
	fmt.Fprint(out, s.judge(samples))
	if len(s.faults) > 0 {
		return errors.New("the soak found:\n" + strings.Join(s.faults, "\n"))
	}
	return nil
}

// run is the life of the fleet, from its start until it is closed.
func (s *soak) run(ctx context.Context) (samples []soakSample, err error) {
	if err := errors.Join(s.expireAtOnce(ctx), s.assemble(ctx)); err != nil {
		return nil, errors.Join(err, s.dismiss(ctx))
	}
	for i := range s.slots {
		s.slots[i].Store(s.newResident(time.Now()))
	}
	working, stop := context.WithTimeout(ctx, s.lasts)
	defer stop()
	var tasks sync.WaitGroup
	for _, task := range append(s.work(), s.operate, s.disturb) {
		tasks.Go(func() { task(working) })
	}
	samples = s.watch(working)
	tasks.Wait()
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), s.dismiss(ctx))
	}
	s.settleAll(ctx)
	return samples, s.dismiss(ctx)
}

// disturb cuts every connection now and then, and kills Redis once, which keeps nothing.
func (s *soak) disturb(ctx context.Context) {
	for _, at := range []float64{0.12, 0.25, 0.45, 0.58, 0.75, 0.88} {
		if !s.until(ctx, at) {
			return
		}
		if at == 0.25 {
			if err := s.outage(ctx); err != nil && ctx.Err() == nil {
				s.faultf("Redis was not started again: %v", err)
			}
			continue
		}
		for _, kind := range []string{"normal", "pubsub"} {
			if err := s.server.client.ClientKillByFilter(ctx, "TYPE", kind, "SKIPME", "yes").Err(); err != nil && ctx.Err() == nil {
				s.faultf("connections of type %s not killed: %v", kind, err)
			}
		}
		s.cuts.Add(1)
	}
}

// until waits until a share of the time is over; false: everything is.
func (s *soak) until(ctx context.Context, share float64) bool {
	return pause(ctx, time.Until(s.began.Add(time.Duration(share*float64(s.lasts)))))
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// outage kills Redis, starts it anew on the same port, and waits until the whole fleet has noticed.
func (s *soak) outage(ctx context.Context) error {
	s.era.Add(1)
	_ = s.server.cmd.Process.Kill()
	_ = s.server.cmd.Wait()
	pause(ctx, min(s.lasts/20, time.Second))
	args := s.server.cmd.Args
	s.server.cmd = exec.CommandContext(context.WithoutCancel(ctx), args[0], args[1:]...) //nolint:gosec // as it was started first
	if err := s.server.cmd.Start(); err != nil {
		return err
	}
	if err := s.server.answers(ctx); err != nil {
		return err
	}
	if err := s.expireAtOnce(ctx); err != nil {
		return err
	}
	for !s.whole() {
		if !pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	s.era.Add(1)
	return nil
}

// expireAtOnce makes Redis look for what has expired as hard as it can: else up to a quarter of its keys are long over.
func (s *soak) expireAtOnce(ctx context.Context) error {
	c := s.server.client
	return errors.Join(c.ConfigSet(ctx, "hz", "100").Err(), c.ConfigSet(ctx, "active-expire-effort", "10").Err())
}

// whole says that every replica asks Redis again.
func (s *soak) whole() bool {
	for _, r := range s.fleet {
		if r.fallback.Degraded() {
			return false
		}
	}
	return true
}

// handles is what a process holds.
type handles struct{ goroutines, files int }

// footprint counts them, without the files of Go's own network poller. Where there is no /proc, there are no files to compare.
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

// goneWithin is how long the last goroutines may take to end.
const goneWithin = 5 * time.Second

// gone checks that the fleet has left nothing behind.
func (s *soak) gone(before handles) {
	var now handles
	for end := time.Now().Add(goneWithin); ; {
		now = footprint()
		if now.goroutines <= before.goroutines && now.files <= before.files {
			return
		}
		if time.Now().After(end) {
			break
		}
		pause(context.Background(), 20*time.Millisecond)
	}
	s.faultf("after Close: %d goroutines and %d open files, before the fleet %d and %d", now.goroutines, now.files, before.goroutines, before.files)
}
