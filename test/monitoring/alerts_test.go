package monitoring

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

// TestAlerts_EachFiresForRealAndClearsByItsRunbook on fleets that get the fault.
//
//nolint:tparallel // the group of fleets ends when all of them have
func TestAlerts_EachFiresForRealAndClearsByItsRunbook(t *testing.T) {
	t.Parallel()
	w := startWatch(t)
	var mu sync.Mutex
	played := map[string]bool{}
	t.Run("fleets", func(t *testing.T) {
		for name, play := range map[string]func(*fleet, func(...step)){
			"agents": playAgents, "left": playLeft, "gate": playGate, "replicas": playReplicas, "missing": playMissing,
			"memory": playMemory, "grows": playGrows, "away": playAway, "wrong": playWrong, "slow": playSlow, "cut": playCut, "files": playFiles,
			"none": playNone, "others": playOthers,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, w, name)
				play(f, func(steps ...step) {
					t.Helper()
					f.play(steps...)
					mu.Lock()
					defer mu.Unlock()
					for _, s := range steps {
						played[s.alert] = true
					}
				})
			})
		}
	})
	if t.Failed() {
		return
	}
	for _, r := range alertRules(t) {
		if !played[r.Alert] {
			t.Errorf("nothing fires %s", r.Alert)
		}
	}
	for _, name := range metricsOf(t, rulesDir) {
		if n, err := w.query(t, name); err != nil || n == 0 {
			t.Errorf("no program had %s: %v", name, err)
		}
	}
	w.answered(t)
}

func playAgents(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one")
	const path = "/v1/circuit_breakers/"
	acquire := func(agent string) { _, _, _ = r.try(f.t, http.MethodPost, path+agent+"/acquire", "") }
	play(
		step{alert: "CircuitBreakerStuckOpen", severity: "P2", agent: "stuck", cause: func() { r.report(f.t, "stuck", "failure", 5) }},
		step{alert: "CircuitBreakerFlapping", severity: "P2", agent: "flaps", cause: func() {
			for range 8 {
				r.report(f.t, "flaps", "failure", 5)
				r.do(f.t, http.StatusOK, http.MethodPost, "/v1/admin/circuit_breakers/flaps/reset", `{"target_state":"CLOSED"}`)
				time.Sleep(time.Second) // the shortest window is ten seconds
			}
		}},
	)
	fail := func(agent string) {
		status, text, err := r.try(f.t, http.MethodPost, path+agent+"/acquire", "")
		if permit := regexp.MustCompile(`"permit":"([^"]+)"`).FindStringSubmatch(text); err == nil && status == http.StatusOK && permit != nil {
			r.do(f.t, http.StatusOK, http.MethodPost, path+agent+"/report", `{"outcome":"failure","permit":"`+permit[1]+`"}`)
		}
	}
	play(
		step{alert: "CircuitBreakerHalfOpenLoop", severity: "P2", agent: "loops", cause: func() {
			r.configure(f.t, "loops", `{"timeout_seconds":1,"half_open_max_calls":1}`)
			r.report(f.t, "loops", "failure", 5)
			for range 6 {
				time.Sleep(1200 * time.Millisecond) // its timeout
				fail("loops")
			}
		}},
		step{alert: "CircuitBreakerProbesAbandoned", severity: "P2", agent: "abandoned", cause: func() {
			r.configure(f.t, "abandoned", `{"timeout_seconds":1,"half_open_max_calls":6}`)
			r.report(f.t, "abandoned", "failure", 5)
			time.Sleep(1200 * time.Millisecond) // its timeout
			for range 6 {
				acquire("abandoned")
				time.Sleep(500 * time.Millisecond) // a counter that begins at its end does not grow
			}
		}},
	)
	stop := make(chan struct{})
	var done sync.WaitGroup
	play(step{alert: "CircuitBreakerRejectionsRising", severity: "P2", agent: "rises", cause: func() {
		r.report(f.t, "rises", "failure", 5)
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					acquire("rises")
				}
			}
		})
	}, mend: func() { close(stop); done.Wait() }})
}

func playLeft(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one", "MAX_AGENTS=3")
	ctx := f.t.Context()
	must := func(err error) {
		f.t.Helper()
		if err != nil {
			f.t.Fatal(err)
		}
	}
	look := func() { // an operator's change makes breakerd look at holds and overrides anew
		r.do(f.t, http.StatusCreated, http.MethodPut, "/v1/admin/agents/looked-"+strconv.FormatInt(time.Now().UnixNano(), 36), `{"contact":"ops"}`)
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	play(
		step{alert: "CircuitBreakerHoldWithoutEnd", severity: "P3", agent: "held", cause: func() {
			r.do(f.t, http.StatusOK, http.MethodPost, "/v1/admin/circuit_breakers/held/open", `{"reason":"ban"}`)
			must(f.client.HSet(ctx, "circuit_breaker:held:control", "hold_ms", yesterday.UnixMilli()).Err())
		}},
		step{alert: "CircuitBreakerOverrideForgotten", severity: "P3", agent: "forgotten", cause: func() {
			r.configure(f.t, "forgotten", `{"failure_threshold":50}`)
			text, err := f.client.Get(ctx, "circuit_breaker:forgotten:config").Result()
			must(err)
			text = regexp.MustCompile(`"_at":"[^"]*"`).ReplaceAllString(text, `"_at":"`+yesterday.UTC().Format(time.RFC3339)+`"`)
			must(f.client.Set(ctx, "circuit_breaker:forgotten:config", text, 0).Err())
		}},
		step{alert: "CircuitBreakerOverrideNotInForce", severity: "P2", agent: "invalid", cause: func() {
			r.configure(f.t, "invalid", `{"failure_threshold":3}`)
			must(f.client.Set(ctx, "circuit_breaker:invalid:config", `{"failure_threshold":-3}`, 0).Err())
			must(f.client.Incr(ctx, "circuit_breaker:overrides").Err())
			look()
		}},
		step{alert: "CircuitBreakerCallsUntracked", severity: "P2", agent: "made-up", cause: func() {
			for i := range 20 {
				r.report(f.t, "made-up-"+strconv.Itoa(i), "success", 1)
				time.Sleep(100 * time.Millisecond) // within several scrapes
			}
		}},
	)
}

func playGate(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one")
	// An ACL that somebody tightened does not let this one read the gate.
	acl := func(rules ...any) {
		f.t.Helper()
		if err := f.client.Do(f.t.Context(), append([]any{"ACL", "SETUSER", "two", "on", ">two", "+@all", "allchannels"}, rules...)...).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
	acl("resetkeys", "~circuit_breaker:[^f]*")
	f.watched("bridge", "two", "REDIS_URL=redis://two:two@"+f.client.Options().Addr+"/0")
	play(
		step{alert: "CircuitBreakerGateNotObeyed", severity: "P1", cause: func() {
			r.do(f.t, http.StatusOK, http.MethodPut, "/v1/admin/fleet", `{"action":"stop","reason":"prices are wrong"}`)
		}, mend: func() { acl("allkeys") }},
		step{alert: "CircuitBreakerFleetGate", severity: "P1"},
	)
}

func playReplicas(f *fleet, play func(...step)) {
	f.watched("breakerd", "one")
	other := f.watched("bridge", "two", "CIRCUIT_BREAKER_ENABLED=false", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=50")
	where := func() string { return other.addr }
	right := func() {
		other.end(f.t)
		f.start("bridge", "two")
	}
	play(
		step{alert: "CircuitBreakerSwitchedOff", severity: "P1", instance: where},
		step{alert: "CircuitBreakerHealthLow", severity: "P1", instance: where},
		step{alert: "CircuitBreakerPolicyDrift", severity: "P2", mend: right},
	)
	play(step{
		alert: "CircuitBreakerReplicaDown", severity: "P1", instance: where, cause: other.kill,
		mend: func() { f.start("bridge", "two") },
	})
}

func playMissing(f *fleet, play func(...step)) {
	f.watched("breakerd", "one")
	other := f.start("bridge", "two") // Prometheus does not see it: a replica that is down is not told of as missing as well
	play(step{
		alert: "CircuitBreakerReplicaMissing", severity: "P2", cause: other.kill,
		mend: func() { f.start("bridge", "two") },
	})
}

func playMemory(f *fleet, play func(...step)) {
	f.watched("breakerd", "one")
	limit := func(share float64) func() {
		return func() { f.set("maxmemory", strconv.FormatInt(int64(float64(f.used())/share), 10)) }
	}
	play(step{alert: "CircuitBreakerRedisMayEvict", severity: "P1", cause: func() {
		f.set("maxmemory", "1gb")
		f.set("maxmemory-policy", "allkeys-lru")
	}})
	play(step{alert: "CircuitBreakerRedisMemoryHigh", severity: "P2", cause: limit(0.8)})
	play(step{alert: "CircuitBreakerRedisMemoryHigh", severity: "P0", cause: limit(0.95)})
	var clients []*redis.Client
	play(step{alert: "CircuitBreakerRedisConnectionsHigh", severity: "P2", cause: func() {
		f.set("maxclients", "40")
		for range 24 {
			c := f.redis.Client(f.t)
			if err := c.Ping(f.t.Context()).Err(); err != nil {
				f.t.Fatal(err)
			}
			clients = append(clients, c)
		}
	}, mend: func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}})
}

func playGrows(f *fleet, play func(...step)) {
	f.watched("breakerd", "one")
	ctx := f.t.Context()
	play(step{alert: "CircuitBreakerRedisMemoryGrows", severity: "P3", cause: func() {
		room := f.used()
		f.set("maxmemory", strconv.FormatInt(room*5/2, 10))
		for i := range 10 {
			f.client.Set(ctx, fmt.Sprintf("grows:%d", i), strings.Repeat("x", int(room/30)), 0)
			time.Sleep(time.Second) // that it grows over several scrapes
		}
	}, mend: func() {
		for i := range 10 {
			f.client.Del(ctx, fmt.Sprintf("grows:%d", i))
		}
	}})
}

func playAway(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS=1")
	play(step{alert: "CircuitBreakerRedisUnreachable", severity: "P0", cause: f.redis.Kill, mend: func() {
		f.awaitInhibited("CircuitBreakerHealthLow")
		f.redis.Restart()
	}})
	f.await(f.t, key(f.name, "CircuitBreakerRedisLostData", "P1"), true) // it was empty when it came back
	play(step{alert: "CircuitBreakerRedisLostData", severity: "P1", cause: func() {
		if err := f.client.FlushAll(f.t.Context()).Err(); err != nil {
			f.t.Fatal(err)
		}
	}})
	play(step{alert: "CircuitBreakerOutcomesLost", severity: "P2", cause: func() {
		f.redis.Kill()
		r.report(f.t, "a", "success", 10)
		time.Sleep(4 * time.Second) // they leave the window
		f.redis.Restart()
	}})
}

func playWrong(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one")
	ctx := f.t.Context()
	ask := func(args ...any) {
		f.t.Helper()
		if err := f.client.Do(ctx, args...).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
	play(step{alert: "CircuitBreakerRedisRefusesAgents", severity: "P1", cause: func() {
		ask("ACL", "SETUSER", "default", "resetkeys", "~circuit_breaker:[^z]*", "~circuit_breaker:z:config")
		r.do(f.t, http.StatusOK, http.MethodPost, "/v1/circuit_breakers/z/acquire", "")
	}, mend: func() {
		ask("ACL", "SETUSER", "default", "allkeys")
		testkit.Eventually(f.t, "z to be asked for again", stepWithin, func() error {
			if _, text, _ := r.try(f.t, http.MethodPost, "/v1/circuit_breakers/z/acquire", ""); strings.Contains(text, `"degraded":true`) {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
	}})
	play(step{alert: "CircuitBreakerRedisAnswersWrongly", severity: "P0", cause: func() {
		ask("CONFIG", "SET", "requirepass", "changed")
		ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}, mend: func() {
		c := redis.NewClient(&redis.Options{Addr: f.client.Options().Addr, Password: "changed"})
		defer func() { _ = c.Close() }()
		if err := c.ConfigSet(ctx, "requirepass", "").Err(); err != nil {
			f.t.Fatal(err)
		}
	}})
}

func playSlow(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one", "REDIS_TIMEOUT_MS=1200")
	stop := make(chan struct{})
	var done sync.WaitGroup
	forever := func(do func()) {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	r.configure(f.t, "probed", `{"timeout_seconds":1,"half_open_max_calls":100}`)
	const acquire = "/v1/circuit_breakers/probed/acquire"
	play(step{alert: "CircuitBreakerLeasesReturned", severity: "P3", agent: "probed", cause: func() {
		r.report(f.t, "probed", "failure", 5)
		time.Sleep(1200 * time.Millisecond) // its timeout
		r.do(f.t, http.StatusOK, http.MethodPost, acquire, "")
		for range 8 {
			f.redis.Pause()
			f.shell(step{}, `for i in 1 2 3; do curl -sm 0.2 -X POST "$BREAKERCTL_SERVER`+acquire+`" || :; done`)
			f.redis.Resume()
			time.Sleep(300 * time.Millisecond) // leases are given back
		}
	}})
	play(
		step{alert: "CircuitBreakerStoreSlow", severity: "P2", cause: func() {
			forever(func() {
				f.redis.Pause()
				time.Sleep(950 * time.Millisecond) // how long Redis takes
				f.redis.Resume()
				time.Sleep(50 * time.Millisecond)
			})
			for i := range 4 {
				forever(func() {
					_, _, _ = r.try(f.t, http.MethodPost, "/v1/circuit_breakers/slow"+strconv.Itoa(i)+"/report", `{"outcome":"success"}`)
				})
			}
		}, mend: func() { close(stop); done.Wait() }},
	)
}

func playCut(f *fleet, play func(...step)) {
	f.watched("breakerd", "one")
	way := newWay(f.t, f.client.Options().Addr)
	other := f.watched("bridge", "two", "REDIS_URL=redis://"+way.addr+"/0", "CIRCUIT_BREAKER_CONSISTENCY=cached",
		"AGENTS_FILE="+write(f.t, f.t.TempDir(), "agents.json", `{"agents":[{"name":"a","url":"http://127.0.0.1:1"}]}`))
	where := func() string { return other.addr }
	call := func() { _, _, _ = other.try(f.t, http.MethodGet, "/agents/a/", "") }
	call()
	play(
		step{alert: "CircuitBreakerOutcomesWait", severity: "P2", instance: where, cause: func() {
			way.cut()
			for range 3 {
				call()
			}
		}},
		step{alert: "CircuitBreakerErrorBudgetBurn", severity: "P1"},
		step{alert: "CircuitBreakerReplicaDegraded", severity: "P2", instance: where, mend: way.mend},
	)
}

func playFiles(f *fleet, play func(...step)) {
	dir := f.t.TempDir()
	write(f.t, dir, "agents.json", `{"agents":[]}`)
	var answer sync.Map
	answer.Store("status", http.StatusBadRequest)
	receiver := serve(f.t, func(w http.ResponseWriter, _ *http.Request) {
		status, _ := answer.Load("status")
		code, _ := status.(int)
		w.WriteHeader(code)
	})
	hooks := write(f.t, dir, "webhooks.json", fmt.Sprintf(`[{"name":"pager","url":%q}]`, receiver))
	ca := testkit.NewCA(f.t) // whose certificates are valid for a day
	pair := ca.ServerPair(f.t, "127.0.0.1")
	one := f.watched("breakerd", "one", "AGENTS_FILE="+filepath.Join(dir, "agents.json"), "WEBHOOKS_FILE="+hooks)
	two := f.start("bridge", "two", "TLS_CERT_FILE="+pair.CertFile, "TLS_KEY_FILE="+pair.KeyFile)
	f.scrape("bridge", two.addr, "https")
	play(
		step{alert: "CircuitBreakerCertificateEnds", severity: "P1", instance: func() string { return two.addr }, mend: func() {
			longLived(f.t, pair)
		}},
		step{alert: "CircuitBreakerFileNotRead", severity: "P2", cause: func() {
			write(f.t, dir, "agents.json", `{"agents":`)
		}, mend: func() { write(f.t, dir, "agents.json", `{"agents":[]}`) }},
	)
	// The stream no longer has what the receiver did not take.
	play(step{alert: "CircuitBreakerWebhookDeadLetters", severity: "P2", cause: func() {
		hook := func(want string) {
			testkit.Eventually(f.t, want, stepWithin, func() error {
				if text := one.do(f.t, http.StatusOK, http.MethodGet, "/v1/admin/webhooks", ""); !strings.Contains(text, want) {
					return fmt.Errorf("%s", text)
				}
				return nil
			})
		}
		hook(`"cursor":"`)
		one.report(f.t, "a", "failure", 5)
		hook(`400`)
		for _, agent := range []string{"b", "c", "d"} {
			one.report(f.t, agent, "failure", 5)
		}
		if err := f.client.XTrimMaxLen(f.t.Context(), "circuit_breaker:stream", 1).Err(); err != nil {
			f.t.Fatal(err)
		}
		answer.Store("status", http.StatusOK)
	}})

	// Nobody reads the stderr of this one.
	reader, writer, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	three := startUnread(f, writer)
	f.scrape("breakerd", three.addr, "http")
	play(step{alert: "CircuitBreakerLogLinesDropped", severity: "P3", instance: func() string { return three.addr }, cause: func() {
		testkit.Eventually(f.t, "lines to be dropped", stepWithin, func() error {
			for range 100 {
				_, _, _ = three.try(f.t, http.MethodGet, "/v1/admin/circuit_breakers", "")
			}
			text, err := get(f.t, "http://"+three.addr+"/metrics")
			if err != nil || strings.Contains(text, "circuit_breaker_log_lines_dropped_total 0\n") {
				return errors.Join(errors.New("none"), err)
			}
			return nil
		})
	}, mend: func() { drain(f.t, reader) }})
}

// playOthers goes by the runbooks of no alert.
func playOthers(f *fleet, _ func(...step)) {
	r := f.watched("breakerd", "one")
	r.report(f.t, "floods", "failure", 2)
	const report = "/v1/circuit_breakers/floods/report"
	limited := f.watched("breakerd", "limited", "CLIENT_RATE_PER_SECOND=3")
	for range 5 { // the boards have how long calls take, and what is refused for want of room
		r.do(f.t, http.StatusOK, http.MethodPost, report, `{"outcome":"success","duration_ms":20}`)
		for range 5 {
			_, _, _ = limited.try(f.t, http.MethodPost, report, `{"outcome":"success"}`)
		}
		time.Sleep(time.Second) // over several scrapes
	}
	for _, page := range []string{"QuarantineOverflow", "HighLatency", "ServerWontStart"} {
		for _, heading := range []string{"How to see", "What to do", "How to see that it cleared"} {
			f.run(step{alert: page, agent: "floods"}, heading)
		}
	}
}

func playNone(f *fleet, play func(...step)) {
	r := f.watched("breakerd", "one")
	play(step{alert: "CircuitBreakerNoReplica", severity: "P0", cause: r.kill, mend: func() { f.start("breakerd", "one") }})
}
