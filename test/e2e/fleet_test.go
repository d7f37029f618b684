package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// soon is what the product promises of an override and of an opening: one second. On a busy machine, with the race
// detector, it may be three.
const (
	promised = time.Second
	soon     = 3 * time.Second
)

// mixed is a fleet of breakerd, bridge and two Go programs.
type mixed struct {
	*site

	core, proxy, a, b *daemon
}

func newMixed(t testing.TB, agents ...string) *mixed {
	t.Helper()
	m := &mixed{site: newSite(t)}
	entries := make([]string, len(agents))
	for i, name := range agents {
		entries[i] = m.agent(name, "")
	}
	m.write("agents.json", "["+strings.Join(entries, ",")+"]")
	return m
}

// in starts the programs, with this consistency. Those that start later know of more replicas.
func (m *mixed) in(consistency string) *mixed {
	m.t.Helper()
	env := []string{"REDIS_URL=" + m.redis.URL(), "CIRCUIT_BREAKER_CONSISTENCY=" + consistency}
	m.core, m.proxy = start(m.t, env...), m.bridge(env[1])
	m.a, m.b = member.start(m.t, env...), member.start(m.t, env...)
	return m
}

// goCall makes one call in a Go program.
func (d *daemon) goCall(agent string, fails bool) reply {
	d.t.Helper()
	return d.call(http.MethodPost, fmt.Sprintf("/call/%s?fail=%t", agent, fails), "").want(http.StatusOK)
}

// goFail makes n calls in a Go program, which fail.
func (d *daemon) goFail(agent string, n int) {
	d.t.Helper()
	for range n {
		d.goCall(agent, true).has("called", true)
	}
}

// failUntilOpen makes calls in a Go program that fail, until they are refused. In cached mode a success of another
// replica may come in between.
func (d *daemon) failUntilOpen(agent string) {
	d.t.Helper()
	testkit.Eventually(d.t, "the breaker to be open", 10*time.Second, func() error {
		if r := d.goCall(agent, true); r.get("open") != true {
			return fmt.Errorf("%s", r.body)
		}
		return nil
	})
}

// changes are the transitions of an agent that a Go program has heard of.
func (d *daemon) changes(agent string) []any {
	d.t.Helper()
	list, _ := d.call(http.MethodGet, "/changes/"+agent, "").want(http.StatusOK).get("changes").([]any)
	return list
}

// promptly waits until check passes, and fails the test if that takes longer than soon.
func promptly(t testing.TB, what string, check func() error) {
	t.Helper()
	begin := time.Now()
	testkit.Eventually(t, what, 20*time.Second, check)
	took := time.Since(begin).Round(time.Millisecond)
	t.Logf("%s: after %v", what, took)
	if took > soon {
		t.Errorf("%s: after %v, promised is %v", what, took, promised)
	}
}

// onBoth runs a test in strict and in cached mode.
func onBoth(t *testing.T, test func(t *testing.T, consistency string)) {
	t.Helper()
	for _, consistency := range []string{"strict", "cached"} {
		t.Run(consistency, func(t *testing.T) {
			t.Parallel()
			test(t, consistency)
		})
	}
}

// writer sets overrides in one way.
type writer struct {
	name        string
	put, remove func(agent, policy string) // policy is JSON, as in Redis
}

func (m *mixed) writers() []writer {
	t := m.t
	config := func(agent string) string { return adminPath + agent + "/config" }
	return []writer{{
		"breakerd",
		func(agent, policy string) {
			m.core.call(http.MethodPut, config(agent), policy).want(http.StatusCreated)
		},
		func(agent, _ string) {
			m.core.call(http.MethodDelete, config(agent), "", "If-Match", "*").want(http.StatusNoContent)
		},
	}, {
		"bridge",
		func(agent, policy string) { m.register(agent, `,"circuit_breaker_config":`+policy) },
		func(agent, _ string) { m.register(agent, `,"circuit_breaker_config":{}`) },
	}, {
		"go",
		func(agent, policy string) {
			m.a.call(http.MethodPut, "/config/"+agent, policy).want(http.StatusOK)
		},
		func(agent, _ string) { m.a.call(http.MethodPut, "/config/"+agent, `{}`).want(http.StatusOK) },
	}, {
		"redis-cli",
		func(agent, policy string) { redisCLI(t, m.redis, "SET", "circuit_breaker:"+agent+":config", policy) },
		func(agent, _ string) { redisCLI(t, m.redis, "DEL", "circuit_breaker:"+agent+":config") },
	}}
}

// register registers an agent through bridge; more is fields besides name and url.
func (m *mixed) register(agent, more string) {
	m.t.Helper()
	r := m.proxy.call(http.MethodPut, "/api/v1/agents/"+agent, m.agent(agent, more))
	if r.status >= http.StatusBadRequest {
		m.t.Errorf("%s: %s", r.what, r.body)
	}
}

// An override counts in a Go program, in breakerd and in bridge, whichever of them an operator told.
func TestFleet_OverrideThroughAnyCountsInAll(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, consistency string) {
		t.Helper()
		m := newMixed(t, "by-breakerd", "by-go", "by-redis-cli").in(consistency)
		m.register("by-bridge", "") // the API cannot change what the file has
		for _, w := range m.writers() {
			agent := "by-" + w.name
			m.core.run(agent, "success", 1)
			m.proxy.through(agent, "/").want(http.StatusOK)
			m.b.goCall(agent, false).has("called", true)
			m.a.failUntilOpen(agent)
			admitted := func(want bool) func() error {
				return func() error { return m.admit(agent, want) }
			}
			promptly(t, "all to refuse", admitted(false))
			w.put(agent, `{"enabled":false}`)
			promptly(t, w.name+" sets enabled to false", admitted(true))
			w.remove(agent, "")
			promptly(t, w.name+" takes that back", admitted(false))

			w.put(agent, `{"failure_threshold":2}`)
			promptly(t, w.name+" sets a threshold", func() error {
				for _, d := range []*daemon{m.a, m.b} {
					r := d.call(http.MethodGet, "/breaker/"+agent, "").want(http.StatusOK)
					if r.get("failure_threshold") != 2.0 {
						return fmt.Errorf("a Go program: %s", r.body)
					}
				}
				if r := m.core.show(agent); r.get("policy.failure_threshold.value") != 2.0 {
					return fmt.Errorf("breakerd: %s", r.body)
				}
				return nil
			})
			m.mode(agent, "failing")
			promptly(t, "the threshold at bridge", func() error {
				m.core.reset(agent, "CLOSED")
				for status := http.StatusInternalServerError; status == http.StatusInternalServerError; {
					status = m.proxy.through(agent, "/").status
				}
				if n := m.core.show(agent).get("failure_count"); n != 2.0 {
					return fmt.Errorf("%v failures opened the breaker", n)
				}
				return nil
			})
		}
	})
}

// admit says who does not admit, or does not refuse, a call.
func (m *mixed) admit(agent string, want bool) error {
	status := http.StatusTooManyRequests
	if want {
		status = http.StatusOK
	}
	if r := m.core.acquire(agent); r.status != status {
		return fmt.Errorf("breakerd: status %d", r.status)
	}
	if r := m.proxy.through(agent, "/"); r.status != status {
		return fmt.Errorf("bridge: status %d", r.status)
	}
	for _, d := range []*daemon{m.a, m.b} {
		if r := d.goCall(agent, false); r.get("called") != want {
			return fmt.Errorf("a Go program: %s", r.body)
		}
	}
	return nil
}

// An opening shows everywhere, whoever caused it, and every Go program hears of it once.
func TestFleet_OpeningShowsEverywhere(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, consistency string) {
		t.Helper()
		m := newMixed(t, "by-bridge").in(consistency)
		m.mode("by-bridge", "failing")
		m.core.run("by-hand", "success", 1)
		for agent, open := range map[string]func(){
			"by-go":       func() { m.a.goFail("by-go", 5) },
			"by-breakerd": func() { m.core.run("by-breakerd", "failure", 5) },
			"by-bridge": func() {
				for range 5 {
					m.proxy.through("by-bridge", "/").want(http.StatusInternalServerError)
				}
			},
			"by-hand": func() {
				m.core.call(http.MethodPost, adminPath+"by-hand/open", `{"reason":"maintenance"}`).want(http.StatusOK)
			},
		} {
			open()
			promptly(t, agent+" in breakerd's list and metrics, and heard", func() error { return m.shows(agent) })
		}
		m.a.awaitText(`"Circuit breaker OPENED"`, `"agent":"by-go"`)
		if lines := m.b.allLogged(`"Circuit breaker OPENED"`); len(lines) > 0 {
			t.Errorf("the Go program that opened nothing logs %q", lines)
		}
		// What is heard comes in order: after this one nothing of the former is to come.
		m.core.run("last", "failure", 5)
		for _, d := range []*daemon{m.a, m.b} {
			testkit.Eventually(t, "the last change", soon, func() error {
				if len(d.changes("last")) == 0 {
					return errors.New("not heard")
				}
				return nil
			})
			for _, agent := range []string{"by-go", "by-breakerd", "by-bridge", "by-hand"} {
				if got := d.changes(agent); !slices.Equal(got, []any{"CLOSED>OPEN"}) {
					t.Errorf("%s: heard %q", agent, got)
				}
				d.call(http.MethodGet, "/list", "").want(http.StatusOK).has(agent, "open")
			}
		}
	})
}

// shows says where an open breaker does not show.
func (m *mixed) shows(agent string) error {
	for _, query := range []string{"", "?state=OPEN"} {
		list := m.core.call(http.MethodGet, strings.TrimSuffix(adminPath, "/")+query, "").want(http.StatusOK)
		if !slices.ContainsFunc(list.array("circuit_breakers"), func(e map[string]any) bool {
			return e["agent_id"] == agent && e["state"] == "OPEN"
		}) {
			return fmt.Errorf("list%s: %s", query, list.body)
		}
	}
	err := m.core.measured(
		fmt.Sprintf("circuit_breaker_state{agent=%q} 1", agent),
		fmt.Sprintf("circuit_breaker_state_info{agent=%q,state=\"OPEN\"} 1", agent),
	)
	if err != nil {
		return err
	}
	for _, d := range []*daemon{m.a, m.b} {
		if len(d.changes(agent)) == 0 {
			return errors.New("a Go program has not heard of it")
		}
	}
	return nil
}

// A Go program counts as a reporter [B23].
func TestFleet_MemberIsAReporter(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, consistency string) {
		t.Helper()
		s := testkit.Start(t)
		env := []string{
			"REDIS_URL=" + s.URL(), "CIRCUIT_BREAKER_CONSISTENCY=" + consistency, "CIRCUIT_BREAKER_MINIMUM_REPORTERS=2",
		}
		// A trip needs no more reporters than there are replicas, as far as the reporter knows: these two know of three.
		start(t, env...)
		core, program := start(t, env...), member.start(t, env...)
		for _, d := range []*daemon{core, program} {
			d.awaitText("circuit_breaker.joined")
		}
		program.goFail("go-first", 8)
		core.show("go-first").has("state", "CLOSED")
		core.run("go-first", "failure", 1)
		core.run("go-last", "failure", 8)
		program.call(http.MethodGet, "/breaker/go-last", "").want(http.StatusOK).has("state", "CLOSED")
		program.goFail("go-last", 1)
		for _, agent := range []string{"go-first", "go-last"} {
			program.call(http.MethodGet, "/breaker/"+agent, "").want(http.StatusOK) // sends what cached mode holds
			testkit.Eventually(t, agent+" to be open", soon, func() error {
				if r := core.acquire(agent); r.status != http.StatusTooManyRequests {
					return fmt.Errorf("status %d: %s", r.status, core.show(agent).body)
				}
				return nil
			})
			program.goCall(agent, false).has("called", false).has("open", true)
		}
	})
}

// While Redis is away a Go program answers, and what it has counted is in Redis afterwards.
func TestFleet_MemberReplaysWhatItCountedWithoutRedis(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, consistency string) {
		t.Helper()
		s := testkit.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		env := []string{"REDIS_URL=" + s.URL(), "CIRCUIT_BREAKER_CONSISTENCY=" + consistency}
		core, program := start(t, env...), member.start(t, env...)
		const agent, before, down, failures = "away", 10, 30, 3
		for range before {
			program.goCall(agent, false).has("called", true)
		}
		core.show(agent)
		program.call(http.MethodGet, "/breaker/"+agent, "").want(http.StatusOK).has("degraded", false)
		s.Kill()
		for i := range down {
			begin := time.Now()
			program.goCall(agent, i < failures).has("called", true)
			if took := time.Since(begin); took > soon {
				t.Errorf("call %d without Redis took %v", i, took)
			}
		}
		program.awaitText("circuit_breaker.degraded")
		s.Restart()
		testkit.Eventually(t, "the replay", 20*time.Second, func() error {
			r := core.show(agent)
			if r.get("totals.successes") != float64(before+down-failures) || r.get("totals.failures") != float64(failures) {
				return fmt.Errorf("totals: %v", r.get("totals"))
			}
			return nil
		})
		program.goCall(agent, false).has("called", true)
		testkit.Eventually(t, "one success more, and no replay twice", 5*time.Second, func() error {
			program.call(http.MethodGet, "/breaker/"+agent, "").want(http.StatusOK).has("state", "CLOSED")
			if r := core.show(agent); r.get("totals.successes") != float64(before+down-failures+1) {
				return fmt.Errorf("totals: %v", r.get("totals"))
			}
			return nil
		})
		core.show(agent).has("totals.failures", float64(failures))
	})
}

// A thousand loops in three processes wait for one agent. When its breaker becomes half-open, only the probes of the
// round reach the agent; when it closes, every loop does.
func TestFleet_WaitersDoNotStampede(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	env := []string{
		"REDIS_URL=" + s.URL(), "CIRCUIT_BREAKER_TIMEOUT_SECONDS=2", "CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS=3",
		"CIRCUIT_BREAKER_PROBE_TIMEOUT_SECONDS=30",
	}
	const agent, waiters, probes = "crowded", 1000, 3
	a := newGate()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	t.Cleanup(a.open)
	programs := []*daemon{member.start(t, env...), member.start(t, env...), member.start(t, env...)}
	programs[0].goFail(agent, 5)
	for i, d := range programs {
		n := waiters / len(programs)
		if i == 0 {
			n += waiters % len(programs)
		}
		d.call(http.MethodPost, fmt.Sprintf("/waiters/%s?n=%d&url=%s", agent, n, url.QueryEscape(server.URL)), "").
			want(http.StatusOK)
	}
	count := func(field string) (n int) {
		for _, d := range programs {
			v, _ := d.call(http.MethodGet, "/waiters", "").want(http.StatusOK).get(field).(float64)
			n += int(v)
		}
		return n
	}
	for round, fails := range []bool{true, false} {
		testkit.Eventually(t, "the probes", 20*time.Second, func() error {
			if n := a.calls.Load(); n < int64((round+1)*probes) {
				return fmt.Errorf("%d calls, and %d wait", n, count("waiting"))
			}
			return nil
		})
		// The round is full. All waiters have had the time to come, were they to.
		refused := count("refused")
		<-time.After(time.Second)
		if n := a.calls.Load(); n != int64((round+1)*probes) {
			t.Fatalf("round %d: %d calls have reached the agent, want %d", round+1, n, (round+1)*probes)
		}
		t.Logf("round %d: %d probes; %d acquires were refused, and %d a second later", round+1, probes, refused, count("refused"))
		a.answer(fails, probes)
	}
	a.open()
	testkit.Eventually(t, "every loop to have had its call", 20*time.Second, func() error {
		if n := count("waiting"); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	if n := a.calls.Load(); n != waiters+probes { // those of the first round failed
		t.Errorf("%d calls reached the agent, want %d", n, waiters+probes)
	}
}

// gate is an agent that counts its calls, and answers them when the test says so.
type gate struct {
	calls   atomic.Int64
	answers chan int // status codes
	opened  chan struct{}
	open    func() // all calls succeed from now on
}

func newGate() *gate {
	g := &gate{answers: make(chan int), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	return g
}

func (g *gate) answer(fails bool, n int) {
	status := http.StatusOK
	if fails {
		status = http.StatusInternalServerError
	}
	for range n {
		g.answers <- status
	}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	g.calls.Add(1)
	select {
	case status := <-g.answers:
		w.WriteHeader(status)
	case <-g.opened:
	}
}

// A Go program that is told to end sends what it has counted, and leaves.
func TestFleet_MemberLeaves(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	env := []string{
		"REDIS_URL=" + s.URL(), "CIRCUIT_BREAKER_CONSISTENCY=cached", "CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=1000",
	}
	core, program := start(t, env...), member.start(t, env...)
	replicas := func(want int) {
		t.Helper()
		testkit.Eventually(t, strconv.Itoa(want)+" replicas", 10*time.Second, func() error {
			if n := redisCLI(t, s, "ZCARD", "circuit_breaker:replicas"); n != strconv.Itoa(want) {
				return errors.New(n)
			}
			return nil
		})
	}
	replicas(2)
	for range 20 {
		program.goCall("left", false).has("called", true)
	}
	program.end()
	core.show("left").has("totals.successes", 20.0)
	replicas(1)
}
