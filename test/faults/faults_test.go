package faults

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// run is one fault of the store while a fleet works.
type run struct {
	name  string
	begin func(f *fleet)
	lasts time.Duration
	end   func(f *fleet) // nil: nothing has to be undone

	redis    []string // arguments of redis-server
	degrades bool     // replicas must have answered without Redis; else the run proves nothing
	forgets  bool     // Redis loses data
	resets   bool     // what was reported until the end of the fault must not reach the Redis that is there afterwards
	choice   string   // the consistency with which the run is part of the choice; "": it is not
}

// Source of the runs: the faults of a store that stops, restarts, refuses or forgets, and of a network that loses, cuts
// and delays, as Jepsen's nemeses and toxiproxy's toxics have them.
func runs() []run {
	proxied := func(x fault) func(*fleet) { return func(f *fleet) { f.proxied(x) } }
	passes := proxied(fault{kind: pass})
	stopped := func(name string, lasts time.Duration) run {
		return run{
			name: name, lasts: lasts, degrades: true,
			begin: func(f *fleet) { f.server.Pause() }, end: func(f *fleet) { f.server.Resume() },
		}
	}
	via := func(name string, lasts time.Duration, x fault, degrades bool) run {
		return run{name: name, lasts: lasts, degrades: degrades, begin: proxied(x), end: passes}
	}
	kill := func(f *fleet) { f.server.Kill() }
	restart := func(f *fleet) { f.server.Restart() }
	short := stopped("stopped 0.6 s", 600*time.Millisecond)
	short.choice = "strict"
	lostReplies := via("replies lost", 4*time.Second, fault{kind: drop, every: 20}, true)
	lostReplies.choice = "cached"
	hole := via("black hole", 4*time.Second, fault{kind: blackHole}, true)
	hole.choice = "strict"
	return []run{
		short,
		stopped("stopped 2 s", 2*time.Second),
		stopped("stopped 20 s", 20*time.Second),
		{
			name: "killed, empty", begin: kill, lasts: 3 * time.Second, end: restart,
			degrades: true, forgets: true, resets: true,
		},
		{
			name: "killed, append-only file", begin: kill, lasts: 2 * time.Second, end: restart, degrades: true,
			redis: []string{"--appendonly", "yes"}, choice: "cached",
		},
		{
			name: "out of memory", lasts: 4 * time.Second, degrades: true,
			begin: func(f *fleet) { f.do("CONFIG", "SET", "maxmemory", "1mb") },
			end:   func(f *fleet) { f.do("CONFIG", "SET", "maxmemory", "0") },
		},
		{
			name: "eviction", lasts: 4 * time.Second, forgets: true,
			begin: func(f *fleet) { f.do("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "maxmemory", "1mb") },
			end:   func(f *fleet) { f.do("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction") },
		},
		{
			name: "scripts flushed", lasts: 4 * time.Second, end: (*fleet).endLoops,
			begin: func(f *fleet) { f.repeat(5*time.Millisecond, "SCRIPT", "FLUSH") },
		},
		{
			name: "clients killed", lasts: 4 * time.Second, end: (*fleet).endLoops,
			begin: func(f *fleet) { f.repeat(50*time.Millisecond, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
		},
		{
			name: "read-only", lasts: 4 * time.Second, degrades: true,
			begin: func(f *fleet) { f.do("REPLICAOF", "127.0.0.1", "1") },
			end:   func(f *fleet) { f.do("REPLICAOF", "NO", "ONE") },
		},
		{
			name: "password", lasts: 4 * time.Second, degrades: true,
			begin: func(f *fleet) {
				f.do("CONFIG", "SET", "requirepass", "other")
				f.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			},
			end: func(f *fleet) {
				f.do("AUTH", "other")
				f.do("CONFIG", "SET", "requirepass", "")
			},
		},
		{
			name: "busy script", lasts: 4 * time.Second, degrades: true, end: (*fleet).endLoops,
			begin: func(f *fleet) {
				f.do("CONFIG", "SET", "busy-reply-threshold", "500")
				f.loops.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
					defer cancel()
					f.occupy(ctx)
				})
			},
		},
		via("100 ms late", 4*time.Second, fault{kind: delay, delay: 100 * time.Millisecond}, false),
		via("400 ms late", 5*time.Second, fault{kind: delay, delay: 400 * time.Millisecond}, true),
		lostReplies,
		via("replies cut", 4*time.Second, fault{kind: cut, every: 20}, false),
		via("replies halved", 4*time.Second, fault{kind: half, every: 20}, false),
		via("bytes", 4*time.Second, fault{kind: split}, false),
		hole,
		via("half of the connections dead", 5*time.Second, fault{kind: halfDead}, true),
		via("refused", 3*time.Second, fault{kind: refuse}, true),
		{
			name: "emptied", lasts: 2 * time.Second, forgets: true, choice: "strict",
			begin: func(f *fleet) { f.do("FLUSHALL") },
		},
		{
			name: "emptied while away", lasts: 2 * time.Second, end: passes, degrades: true, forgets: true, resets: true,
			begin: func(f *fleet) {
				f.proxied(fault{kind: blackHole})
				pause(f.t.Context(), time.Second)
				f.do("FLUSHALL")
			},
		},
		{
			name: "killed, older snapshot", lasts: 2 * time.Second, degrades: true, forgets: true, end: restart,
			begin: func(f *fleet) {
				f.do("SAVE")
				pause(f.t.Context(), time.Second)
				f.server.Kill()
			},
		},
		{
			name: "cut off again while replaying", lasts: time.Second, degrades: true, end: passes, choice: "cached",
			begin: func(f *fleet) {
				f.proxied(fault{kind: blackHole})
				pause(f.t.Context(), 2*time.Second)
				f.proxied(fault{kind: pass})
				f.returned()
				f.proxied(fault{kind: refuse})
			},
		},
		{
			name: "one cut off", lasts: 3 * time.Second, degrades: true, end: passes,
			begin: func(f *fleet) { f.proxies[0].set(f.t, fault{kind: blackHole}) },
		},
		{
			name: "replica killed with a queue", lasts: time.Second, degrades: true,
			begin: func(f *fleet) {
				f.proxied(fault{kind: blackHole})
				pause(f.t.Context(), 2*time.Second)
				f.leave(0).kill()
			},
			end: func(f *fleet) {
				f.proxied(fault{kind: pass})
				f.replace(0, "three")
			},
		},
		{
			name: "replica of a fixed name restarted", lasts: time.Second, degrades: true,
			begin: func(f *fleet) {
				f.proxied(fault{kind: blackHole})
				pause(f.t.Context(), time.Second)
				r := f.leave(0)
				r.Signal(syscall.SIGTERM)
				if code := r.ExitCode(); code != 0 {
					f.t.Errorf("SIGTERM while Redis is away: exit code %d", code)
				}
			},
			end: func(f *fleet) {
				f.proxied(fault{kind: pass})
				f.replace(0, "one")
			},
		},
		{
			name: "policy changed meanwhile", lasts: 2 * time.Second, degrades: true, end: passes,
			begin: func(f *fleet) {
				f.proxied(fault{kind: blackHole})
				for _, agent := range agents() {
					f.do("SET", "circuit_breaker:"+agent+":config", `{"window_size_seconds":30,"failure_threshold":6}`)
				}
			},
		},
	}
}

// occupy keeps Redis in a script for four seconds.
func (f *fleet) occupy(ctx context.Context) {
	const script = `local t = redis.call("TIME")[1] while redis.call("TIME")[1] - t < 4 do end return 1`
	_ = f.admin.WithTimeout(callTimeout).Eval(ctx, script, nil).Err() // if it is killed, the run shows that
}

// returned waits until a replica uses Redis again.
func (f *fleet) returned() {
	for range 200 {
		if f.replicas[0].Load().inStep(f.t.Context()) == nil {
			return
		}
		pause(f.t.Context(), 5*time.Millisecond)
	}
	f.t.Error("no replica came back in a second")
}

func TestFaults_NoCallerSeesThemAndNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, r := range runs() {
		for _, consistency := range []string{"strict", "cached"} {
			if !*everything && r.choice != consistency {
				continue
			}
			t.Run(r.name+"/"+consistency, func(t *testing.T) {
				t.Parallel()
				r.play(t, consistency)
			})
		}
	}
}

// play runs a fleet before, during and after the fault.
func (r *run) play(t *testing.T, consistency string) {
	f := startFleet(t, consistency, r.redis...)
	working, stop := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	ill, heal := context.WithCancel(working)
	tasks.Go(func() { f.run(working) })
	tasks.Go(func() { f.flap(ill) })
	tasks.Go(func() { f.watchRounds(working) })
	tasks.Go(func() { f.timers.watch(working) })
	defer tasks.Wait()
	defer stop()
	defer heal()

	pause(t.Context(), 1500*time.Millisecond)
	f.measure()
	before := f.degraded.Load()
	lasts := r.lasts
	if !*everything {
		lasts = min(lasts, 1500*time.Millisecond)
	}
	r.begin(f)
	pause(t.Context(), lasts)
	heal()
	if r.resets {
		f.former = f.known()
	}
	if r.end != nil {
		r.end(f)
	}
	took := f.recovers(time.Now())
	pause(t.Context(), time.Second)
	stop()
	tasks.Wait()
	f.settles()
	f.judge(!r.forgets)
	if r.degrades && f.degraded.Load() == before {
		t.Error("the fault did nothing: every answer was given with Redis")
	}
	if x := f.proxies[0]; x.replies.Load() > 0 && x.hits.Load() == 0 {
		t.Errorf("the fault did nothing: it met none of %d replies", x.replies.Load())
	}
	f.describe(took, f.end())
}

func TestFaults_EachHasANameOfItsOwnAndTheChoiceHasBothConsistencies(t *testing.T) {
	t.Parallel()
	seen, choice := map[string]bool{}, []string{}
	for _, r := range runs() {
		if seen[r.name] {
			t.Errorf("%s stands twice", r.name)
		}
		seen[r.name] = true
		choice = append(choice, r.choice)
	}
	if len(seen) < 21 || !slices.Contains(choice, "strict") || !slices.Contains(choice, "cached") {
		t.Errorf("%d faults, of the choice %q", len(seen), choice)
	}
}
