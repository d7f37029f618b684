package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/fleet"
)

const (
	listPath    = "/v1/admin/circuit_breakers"
	summaryPath = "/v1/admin/summary"
)

// whole is a breakerd without listeners, on an engine.
type whole struct {
	*service
	*routetest.Client

	url     string
	handler http.Handler
	parts   parts
}

// newWhole makes a breakerd. Unless it is started, nothing but requests asks Redis.
func newWhole(t testing.TB, url string, start bool) *whole {
	t.Helper()
	w := newWholeOf(t, url, func() int64 { return 0 }, "REDIS_TIMEOUT_MS=10000")
	if start {
		w.Start(t.Context(), w.parts.tasks...)
	}
	return w
}

// newWholeOf makes a breakerd with settings of its own; dropped counts the log lines that were dropped.
func newWholeOf(t testing.TB, url string, dropped func() int64, env ...string) *whole {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.Load(append(env, "REDIS_URL="+url))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newService(t.Context(), program{name: "breakerd"}, cfg, daemon.Host{Log: log, LinesDropped: dropped})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(true) })
	p, err := buildBreakerd(s, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	w := &whole{
		service: s, Client: &routetest.Client{TB: t, Doc: &huma.OpenAPI{}}, url: url, handler: p.listeners[0].Handler, parts: p,
	}
	w.Serve(w.handler)
	return w
}

// onBothEngines runs a test with a breakerd on miniredis, and with one on a server.
func onBothEngines(t *testing.T, test func(t *testing.T, w *whole)) {
	t.Helper()
	for name, url := range map[string]func(*testing.T) string{
		"miniredis": func(*testing.T) string { return "embedded://127.0.0.1:0" },
		"redis":     func(t *testing.T) string { t.Helper(); return testkit.Start(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWhole(t, url(t), true))
		})
	}
}

// fail records failures of an agent, as another replica would.
func (w *whole) fail(agent string, times int) {
	w.Helper()
	for range times {
		op := machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Summary: machine.One(true, false, 0)}
		if _, err := w.Store.Apply(w.Context(), agent, breaker.DefaultPolicy(), op); err != nil {
			w.Fatal(err)
		}
	}
}

// awaitListed waits until a list has these agents, and no others.
func (w *whole) awaitListed(query, want string) {
	w.Helper()
	testkit.Eventually(w.TB, "the list "+query, 20*time.Second, func() error {
		g := w.Do("GET", listPath+query, "").Want(200)
		var names []string
		list, _ := g.JSON["circuit_breakers"].([]any)
		for _, e := range list {
			m, _ := e.(map[string]any)
			names = append(names, fmt.Sprint(m["agent_id"]))
		}
		if have := strings.Join(names, " "); have != want {
			return fmt.Errorf("%q, want %q", have, want)
		}
		return nil
	})
}

func TestList_FindsWhatAHandHasHidden(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, w *whole) {
		keys, redis := w.Store.Keys(), w.Conn.Client
		w.Do("POST", listPath+"/banned/open", `{"reason":"fraud","protected":true}`).Want(200)
		if err := redis.Set(t.Context(), keys.Machine("banned")[0], "closed", 0).Err(); err != nil {
			t.Fatal(err)
		}
		w.awaitListed("?state=OPEN", "banned")
		w.Do("GET", listPath+"?hold=protected", "").Want(200, `circuit_breakers.0.reason="fraud"`)

		w.fail("planted", 1)
		if err := errors.Join(
			w.Docs.MarkSeen(t.Context(), []string{"planted"}), redis.Set(t.Context(), keys.Machine("planted")[0], "open", 0).Err(),
		); err != nil {
			t.Fatal(err)
		}
		w.awaitListed("?state=OPEN", "banned planted")
		w.Do("GET", listPath+"?reason=hand_edit", "").Want(200, `circuit_breakers.0.agent_id="planted"`, "total=1")

		// Nobody's index has names that are only made up: they hide nothing.
		made := make([]string, 3000)
		for i := range made {
			made[i] = fmt.Sprintf("made-up-%04d", i)
		}
		if err := w.Docs.MarkSeen(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		w.awaitListed("?limit=2", "banned planted")
	})
}

func TestList_FindsWhatALibraryReplicaHasOpened(t *testing.T) {
	t.Parallel()
	w := newWhole(t, testkit.Start(t).URL(), true)
	f, err := fleet.Join(t.Context(), w.url, fleet.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(context.Background()) })
	for range 5 {
		_ = f.Do(t.Context(), "by-library", func(context.Context) error { return errors.New("boom") })
	}
	w.awaitListed("?state=OPEN", "by-library")
	w.Do("GET", listPath+"?state=OPEN", "").Want(200, `circuit_breakers.0.reason="consecutive_failures"`)
}

func TestSummary_OfWhatRedisHolds(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, w *whole) {
		w.fail("flaps", 5)
		for range 2 {
			w.reset("flaps")
			w.fail("flaps", 5)
		}
		w.fail("calm", 1)
		idle := redis.Z{Score: float64(time.Now().Add(-48 * time.Hour).Unix()), Member: "idle"}
		keys, client := w.Store.Keys(), w.Conn.Client
		if err := errors.Join(
			client.ZAdd(t.Context(), keys.Agents(), idle).Err(), w.Docs.MarkSeen(t.Context(), []string{"calm", "flaps"}),
			client.Set(t.Context(), keys.Config("idle"), `{"failure_threshold":"many"}`, 0).Err(),
			client.Set(t.Context(), keys.Profile("calm"), `{"labels":{"team":"pay"}}`, 0).Err(),
		); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"agents=3", "states.OPEN=1", "states.CLOSED=2", "causes.consecutive_failures=1", "modes.enforce=3",
			`flappers.0.agent_id="flaps"`, "flappers.0.openings=3", "idle.count=1", `idle.names.0="idle"`,
			"overrides=1", `invalid_overrides.names.0="idle"`, `labels.0.value="pay"`, `oldest_open.0.agent_id="flaps"`,
		}
		w.Do("GET", summaryPath, "").Want(200, want...)
		w.reset("flaps")
		w.fail("flaps", 5)
		w.Do("POST", listPath+"/calm/reset", `{"target_state":"CLOSED"}`).Want(200) // the next summary is read anew
		w.Do("GET", summaryPath, "").Want(200, "flappers.0.openings=4", "agents=3")
	})
}

func TestExplain_WhatRedisHolds(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, w *whole) {
		keys, client := w.Store.Keys(), w.Conn.Client
		code := func(agent, part, code string) {
			t.Helper()
			g := w.Do("GET", listPath+"/"+agent+"/explain", "").Want(200)
			all, _ := g.JSON[part].([]any)
			for _, c := range all {
				if m, _ := c.(map[string]any); m["code"] == code {
					return
				}
			}
			t.Errorf("%s of %s lacks %s: %s", part, agent, code, g.Text)
		}
		w.fail("tripped", 5)
		code("tripped", "because", "consecutive_failures")
		code("tripped", "next", "half_open_at")

		w.fail("edited", 1)
		w.Do("POST", listPath+"/banned/open", `{"reason":"fraud","protected":true}`).Want(200)
		if err := errors.Join(
			client.Set(t.Context(), keys.Machine("edited")[0], "open", 0).Err(),
			client.Set(t.Context(), keys.Machine("banned")[0], "closed", 0).Err(),
		); err != nil {
			t.Fatal(err)
		}
		code("edited", "because", "hand_edit") // at once
		code("banned", "because", "hold_open")

		if w.Conn.Embedded { // it is one replica's alone
			return
		}
		other := newWhole(t, w.url, true)
		w.Do("PUT", listPath+"/alone/config", `{"minimum_reporters":2}`).Want(201)
		testkit.Eventually(t, "both replicas to be up", 20*time.Second, func() error {
			if n := len(w.Do("GET", "/v1/admin/replicas", "").Want(200).JSON["replicas"].([]any)); n != 2 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		for range 4 {
			other.Do("POST", "/v1/circuit_breakers/alone/report", `{"outcome":"failure"}`).Want(200)
		}
		code("alone", "not_tripping", "minimum_reporters")
	})
}

// reset closes an agent's breaker.
func (w *whole) reset(agent string) {
	w.Helper()
	f := breaker.Force{Target: breaker.ResetClosed, Actor: "test", Reason: "test"}
	if _, err := w.Manager.Force(w.Context(), agent, f); err != nil {
		w.Fatal(err)
	}
}

// seed makes so many known agents, of which so many are open.
func (w *whole) seed(agents, open int) {
	w.Helper()
	names := make([]string, agents)
	for i := range names {
		names[i] = fmt.Sprintf("agent-%06d", i)
	}
	if err := w.Docs.MarkSeen(w.Context(), names); err != nil {
		w.Fatal(err)
	}
	for i := range open {
		w.fail(names[i*agents/open], 5)
	}
}

var commandCalls = regexp.MustCompile(`(?m)^cmdstat_(\S+):calls=(\d+)`)

// commands counts the commands that a server has carried out since its statistics were reset, those of scripts
// included, and the scripts.
func commands(t *testing.T, admin *redis.Client) (scripts, all int) {
	t.Helper()
	stats, err := admin.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range commandCalls.FindAllStringSubmatch(stats, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		switch m[1] {
		case "evalsha", "eval":
			scripts += n
		case "info", "config|resetstat", "hello", "client|setinfo", "client|setname", "auth", "select":
			n = 0 // this test's, or a new connection's
		}
		all += n
	}
	return scripts, all
}

func TestList_CostsInProportionToWhatIsOpen(t *testing.T) {
	t.Parallel()
	const agents, open = 10_000, 200
	server := testkit.Start(t)
	admin := server.Client(t)
	w := newWhole(t, server.URL(), false)
	w.seed(agents, open)
	reset := func() {
		if err := admin.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		listPath + "?state=OPEN": "total=200", listPath + "?state=OPEN&sort=worst": "total=200", summaryPath: "states.OPEN=200",
		listPath + "?hold=none&state=OPEN,HALF_OPEN&reason=failures": "total=200",
	} {
		one := newWhole(t, server.URL(), false)
		reset()
		one.Do("GET", query, "").Want(200, want)
		scripts, all := commands(t, admin)
		if scripts < open || scripts > 2*open {
			t.Errorf("%s: %d scripts for %d open agents", query, scripts, open)
		}
		if all > 16*open && query != summaryPath { // a script's own commands count
			t.Errorf("%s: %d commands for %d open agents", query, all, open)
		}
	}
	for _, query := range []string{listPath + "?state=OPEN", listPath + "?limit=100", listPath + "?label=team%3Dpay", summaryPath} {
		one, _ := w.costOf(t, admin, query, 1)
		many, took := w.costOf(t, admin, query, 50)
		if snapshots := 1 + int(took/time.Second); many != one && (snapshots == 1 || many > snapshots*one) {
			t.Errorf("%s: %d commands for one viewer, %d for 50 within %v", query, one, many, took)
		}
	}
}

// costOf counts the commands that the lists of a new replica need for so many viewers at once, and says how long that
// took: each second begins another snapshot.
func (w *whole) costOf(t *testing.T, admin *redis.Client, query string, viewers int) (commandsSent int, took time.Duration) {
	t.Helper()
	one := newWhole(t, w.url, false)
	one.Do("GET", "/livez", "").Want(200)
	if err := admin.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var all sync.WaitGroup
	for range viewers {
		all.Go(func() { one.Do(http.MethodGet, query, "").Want(200) })
	}
	all.Wait()
	took = time.Since(begin)
	_, n := commands(t, admin)
	return n, took
}

// TestMetrics_CostInProportionToWhatIsOpen as lists do.
func TestMetrics_CostInProportionToWhatIsOpen(t *testing.T) {
	t.Parallel()
	const agents, open = 10_000, 200
	server := testkit.Start(t)
	admin := server.Client(t)
	w := newWhole(t, server.URL(), false)
	w.seed(agents, open)
	if err := admin.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	states, err := w.States(t.Context())
	if err != nil || len(states) != agents || states["agent-000000"] != breaker.Open || states["agent-000001"] != breaker.Closed {
		t.Fatalf("%d states, %v", len(states), err)
	}
	scripts, all := commands(t, admin)
	if most := 16 * open; scripts > 2*open || all > most {
		t.Errorf("%d scripts, %d commands: more than %d", scripts, all, most)
	}
}
