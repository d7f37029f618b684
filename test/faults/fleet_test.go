package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

// What is asked of every run. A busy machine gets more time: see fleet.slack.
const (
	answersWithin   = time.Second     // REDIS_TIMEOUT_MS is 250
	recoversWithin  = 2 * time.Second // from the end of the fault
	settlesWithin   = 5 * time.Second // from the end of the load, until nothing waits any more
	slackGoroutines = 12
	slackMegabytes  = 96 // a program with the race detector takes 50 at its start and 100 under load
)

// fleet is two replicas on one Redis, each behind a proxy of its own, under load.
type fleet struct {
	*load

	t           testing.TB
	consistency string
	server      *testkit.Server
	admin       *redis.Client // not behind a proxy
	proxies     [2]*proxy
	all         []*replica // those that have ended as well
	stop        []func()   // ends the watch of each, in the order of all

	slowest    time.Duration // answer before the fault
	timers     timers
	former     int // outcomes that were reported for a Redis that lost its data
	loops      sync.WaitGroup
	stopLoops  context.CancelFunc
	checks     int             // of rounds in Redis
	overRounds map[string]bool // what was wrong with them
}

func startFleet(t testing.TB, consistency string, redisArgs ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, consistency: consistency, overRounds: map[string]bool{}}
	f.server = testkit.Start(t, append([]string{"--enable-debug-command", "yes"}, redisArgs...)...)
	f.admin = f.server.Client(t)
	for i := range f.proxies {
		f.proxies[i] = startProxy(t, f.server.Addr)
	}
	f.load = newLoad(f.join(0, "one"), f.join(1, "two"))
	return f
}

// join starts a replica behind the i-th proxy, and watches it.
func (f *fleet) join(i int, id string) *replica {
	f.t.Helper()
	r := startReplica(f.t, id, f.proxies[i].url(), f.consistency)
	testkit.Eventually(f.t, id+" to be in step", startTimeout, func() error { return r.inStep(f.t.Context()) })
	var err error
	if r.begun, err = r.holds(); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.watch(ctx)
	}()
	f.all = append(f.all, r)
	f.stop = append(f.stop, func() { cancel(); <-done })
	return r
}

// replace puts another replica in the place of the i-th, which has ended or is ending.
func (f *fleet) replace(i int, id string) {
	f.t.Helper()
	r := f.join(i, id)
	f.replicas[i].Store(r)
}

// leave has the load avoid the i-th replica, and returns it: what it still answers counts, what it does not answer is no
// fault.
func (f *fleet) leave(i int) *replica {
	r := f.replicas[i].Load()
	r.gone.Store(true)
	f.replicas[i].Store(f.replicas[1-i].Load())
	return r
}

// proxied changes the fault of both proxies.
func (f *fleet) proxied(x fault) {
	f.t.Helper()
	for _, p := range f.proxies {
		p.set(f.t, x)
	}
}

// do sends Redis a command that must succeed.
func (f *fleet) do(args ...any) {
	f.t.Helper()
	if err := f.admin.Do(f.t.Context(), args...).Err(); err != nil {
		f.t.Errorf("%v: %v", args, err)
	}
}

// repeat sends Redis a command again and again, until the fault is over.
func (f *fleet) repeat(every time.Duration, args ...any) {
	ctx, cancel := context.WithCancel(f.t.Context())
	f.stopLoops = cancel
	f.loops.Go(func() {
		for pause(ctx, every) {
			if err := f.admin.Do(ctx, args...).Err(); err != nil && ctx.Err() == nil {
				f.t.Errorf("%v: %v", args, err)
			}
		}
	})
}

func (f *fleet) endLoops() {
	if f.stopLoops != nil {
		f.stopLoops()
	}
	f.loops.Wait()
}

// measure notes how slow answers are without a fault.
func (f *fleet) measure() {
	for i := range f.replicas {
		r := f.replicas[i].Load()
		r.lock.Lock()
		f.slowest = max(f.slowest, r.slow)
		r.lock.Unlock()
	}
}

// slack is how much more time a busy machine gets.
func (f *fleet) slack() time.Duration { return max(4*f.slowest, f.timers.slack()) }

// known is how many outcomes Redis may have counted, for all that callers know.
func (f *fleet) known() (n int) {
	for _, r := range f.all {
		a := r.sum()
		n += a.acknowledged + a.waiting + a.unknown + a.unanswered
	}
	return n
}

// watchRounds looks in Redis, every 50 ms, whether a round has more probes than it may: settled ones and leases [B12].
func (f *fleet) watchRounds(ctx context.Context) {
	for pause(ctx, 50*time.Millisecond) {
		for _, agent := range agents() {
			f.watchRound(ctx, agent)
		}
	}
}

func (f *fleet) watchRound(ctx context.Context, agent string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var leases *redis.IntCmd
	var round *redis.SliceCmd
	_, err := f.admin.TxPipelined(ctx, func(p redis.Pipeliner) error {
		leases = p.HLen(ctx, "circuit_breaker:"+agent+":probes")
		round = p.HMGet(ctx, "circuit_breaker:"+agent+":control", "round_ok", "round_failed", "round_max")
		return nil
	})
	if err != nil { // Redis has the fault of the run
		return
	}
	f.checks++
	v := round.Val()
	if most := number(v[2]); leases.Val() > roundMax || most > 0 && leases.Val()+number(v[0])+number(v[1]) > most {
		f.overRounds[fmt.Sprintf("%s: %d leases, settled %v and %v, at most %v", agent, leases.Val(), v[0], v[1], v[2])] = true
	}
}

// number is a field of a hash; an absent one is 0.
func number(v any) int64 {
	s, _ := v.(string)
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// totals is how many outcomes of an agent Redis has ever counted: the totals of :control and the buckets that still
// stand in :calls.
func (f *fleet) totals(agent string) (n int64) {
	f.t.Helper()
	var control *redis.SliceCmd
	var calls *redis.MapStringStringCmd
	_, err := f.admin.TxPipelined(f.t.Context(), func(p redis.Pipeliner) error {
		control = p.HMGet(f.t.Context(), "circuit_breaker:"+agent+":control", "successes", "failures")
		calls = p.HGetAll(f.t.Context(), "circuit_breaker:"+agent+":calls")
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	n = number(control.Val()[0]) + number(control.Val()[1])
	for field, v := range calls.Val() {
		if start := strings.TrimLeft(field, "sf"); len(start) == len(field)-1 {
			if _, err := strconv.ParseInt(start, 10, 64); err == nil {
				n += number(v)
			}
		}
	}
	return n
}

// recovers waits until both replicas use Redis and show every breaker closed that a healthy agent has. It returns
// how long that took.
func (f *fleet) recovers(since time.Time) (took time.Duration) {
	var last error
	for {
		var err error
		for i := range f.replicas {
			err = errors.Join(err, f.replicas[i].Load().inStep(f.t.Context(), steady, keyed, bare, flappy))
		}
		took = time.Since(since)
		if err == nil || took > 3*recoversWithin+f.slack() {
			break
		}
		last = err
		pause(f.t.Context(), 20*time.Millisecond)
	}
	if limit := recoversWithin + f.slack(); took > limit {
		f.t.Errorf("the fleet was not well %v after the fault, but after %v; before that: %v", limit, took, last)
	}
	return took
}

// settles waits until no replica has anything that waits.
func (f *fleet) settles() {
	for end := time.Now().Add(settlesWithin); time.Now().Before(end); {
		var waiting float64
		for i := range f.replicas {
			s, err := f.replicas[i].Load().scrape(f.t.Context())
			if err == nil {
				waiting += s.unsent() + s["circuit_breaker_unsent_agents"]
			}
		}
		if waiting == 0 {
			return
		}
		pause(f.t.Context(), 50*time.Millisecond)
	}
	f.t.Errorf("outcomes still wait %v after the load", settlesWithin)
}

// judge compares what the callers saw with what the replicas and Redis have counted. keeps: Redis has kept its data.
func (f *fleet) judge(keeps bool) {
	t := f.t
	t.Helper()
	var low, high, total int64 // what Redis must have counted
	byAgent := map[string]account{}
	for i, r := range f.all {
		f.stop[i]()
		ended := r.gone.Load()
		if !ended {
			s, err := r.scrape(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.compare(s)
		}
		r.lock.Lock()
		for agent, a := range r.agents {
			sum := byAgent[agent]
			sum.add(*a)
			byAgent[agent] = sum
		}
		r.lock.Unlock()
		saw := r.sum()
		f.judgeReplica(r, saw, ended)
		s := r.last
		low += int64(s.settledAs("acknowledged"))
		high += int64(s.settledAs("acknowledged") + s.settledAs("unknown"))
		if ended { // it took some more after the last scrape
			high += int64(saw.taken+saw.unanswered) - int64(s.taken()) + int64(s.unsent())
		}
	}
	for _, agent := range agents() {
		n := f.totals(agent)
		total += n
		a := byAgent[agent]
		most := int64(a.acknowledged + a.waiting + a.unknown + a.unanswered)
		if agent == keyed {
			most = min(most, f.keys.Load())
		}
		if n > most {
			t.Errorf("Redis counts %d outcomes of %s, of which its callers know at most %d", n, agent, most)
		}
		// One that waits after a cut is told as counted, and may turn out to be unknown.
		if f.consistency == "strict" && keeps && n < int64(a.acknowledged)-(high-low) {
			t.Errorf("Redis counts %d outcomes of %s, of which callers were told %d", n, agent, a.acknowledged)
		}
	}
	if most := int64(f.known() - f.former); total > most {
		t.Errorf("Redis counts %d outcomes, and %d were reported since it lost its data", total, most)
	}
	if total > high || keeps && total < low {
		t.Errorf("Redis counts %d outcomes; acknowledged %d, with the unknown ones %d", total, low, high)
		for _, agent := range agents() {
			t.Logf("  %s: Redis counts %d; the replicas say %v; callers: %+v", agent, f.totals(agent), f.counted(agent),
				byAgent[agent])
		}
	}
	f.judgeProbes(keeps)
}

// counted is how many outcomes of an agent the replicas say that Redis has counted.
func (f *fleet) counted(agent string) (n float64) {
	for _, r := range f.all {
		for _, result := range []string{"success", "failure"} {
			n += r.last[fmt.Sprintf("circuit_breaker_calls_total{agent=%q,result=%q}", agent, result)]
		}
	}
	return n
}

// judgeReplica compares a replica's sum with its callers' ledger.
func (f *fleet) judgeReplica(r *replica, saw account, ended bool) {
	t := f.t
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(r.faults)) {
		t.Errorf("%s: %s (%d times)", r.id, what, r.faults[what])
	}
	if r.slow > answersWithin+f.slack() {
		t.Errorf("%s: %s took %v, more than %v", r.id, r.slowAt, r.slow, answersWithin+f.slack())
	}
	if len(r.off) > 0 {
		t.Errorf("%s: %d of %d scrapes do not add up, such as %s", r.id, len(r.off), r.scrapes, r.off[len(r.off)-1])
	}
	s := r.last
	if ended {
		return
	}
	if n := int(s.taken()); n < saw.taken || n > saw.taken+saw.unanswered {
		t.Errorf("%s took %d outcomes, and answered %d (unanswered: %d)", r.id, n, saw.taken, saw.unanswered)
	}
	if s.unsent() != 0 {
		t.Errorf("%s: %v outcomes wait in the end", r.id, s.unsent())
	}
	if log := r.Stderr(); saw.waiting > 0 && !strings.Contains(log, `"msg":"in step"`) {
		t.Errorf("%s has sent what waited, and does not log it", r.id)
	}
	got, unknown := int(s.settledAs("acknowledged")), int(s.settledAs("unknown"))
	if f.consistency == "strict" && (got < saw.acknowledged-unknown || got > saw.acknowledged+saw.waiting+saw.unanswered) {
		t.Errorf("%s says that Redis acknowledged %d; its callers were told %d, and of %d that they wait", r.id, got,
			saw.acknowledged, saw.waiting)
	}
}

// judgeProbes holds every round to its size, as callers saw it and as Redis had it. A Redis that forgets may go through a
// part of a round twice.
func (f *fleet) judgeProbes(keeps bool) {
	t := f.t
	t.Helper()
	if f.most > roundMax {
		t.Errorf("%d probes of one round were in flight, of %d", f.most, roundMax)
	}
	for round, n := range f.rounds {
		if keeps && n > roundMax {
			t.Errorf("round %s: %d outcomes of probes counted, of %d", round, n, roundMax)
		}
	}
	for what := range f.overRounds {
		t.Errorf("in Redis a round had too many probes: %s", what)
	}
}

// end stops the replicas, which must hold no more than at the start.
func (f *fleet) end() string {
	var held strings.Builder
	for i := range f.replicas {
		r := f.replicas[i].Load()
		now, err := r.returns()
		if err != nil {
			f.t.Errorf("%s: %v: %+v, before %+v", r.id, err, now, r.begun)
		}
		fmt.Fprintf(&held, " %s %d→%d goroutines %d→%d MiB,", r.id, r.begun.goroutines, now.goroutines,
			r.begun.megabytes, now.megabytes)
	}
	for i := range f.replicas {
		r := f.replicas[i].Load()
		before := len(r.faults)
		r.end()
		if len(r.faults) > before {
			f.t.Errorf("%s: %v", r.id, slices.Sorted(maps.Keys(r.faults)))
		}
	}
	return held.String()
}

// describe logs what the run has measured.
func (f *fleet) describe(recovered time.Duration, held string) {
	var b strings.Builder
	fmt.Fprintf(&b, "well after %v; %d calls, %d answers without Redis; at most %d probes of a round in flight, %d rounds, "+
		"%d looks at Redis; %v more for a busy machine;%s\n", recovered.Round(time.Millisecond), f.calls.Load(),
		f.degraded.Load(), f.most, len(f.rounds), f.checks, f.slack().Round(time.Millisecond), held)
	for _, r := range f.all {
		s, saw := r.last, r.sum()
		fmt.Fprintf(&b, "  %s: slowest answer %v (%s); %d scrapes, at most %v unsent; taken %v, acknowledged %v, unknown %v, "+
			"lost %v; %d times without Redis; callers: %+v\n", r.id, r.slow.Round(time.Millisecond), r.slowAt, r.scrapes, r.most,
			s.taken(), s.settledAs("acknowledged"), s.settledAs("unknown"), s.settledAs("lost"),
			strings.Count(r.Stderr(), `"event":"circuit_breaker.degraded"`), saw)
		if f.t.Failed() {
			b.WriteString(r.table())
		}
	}
	f.t.Logf("%s", b.String())
}
