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

const listPath = "/v1/admin/circuit_breakers"

// whole is a breakerd without listeners, on an engine.
type whole struct {
	*service
	*routetest.Client

	url string
}

// newWhole makes a breakerd. Unless it is started, nothing but requests asks Redis.
func newWhole(t testing.TB, url string, start bool) *whole {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg, err := config.Load([]string{"REDIS_URL=" + url, "REDIS_TIMEOUT_MS=10000"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newService(t.Context(), "breakerd", cfg, daemon.Host{Log: log, LinesDropped: func() int64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(true) })
	p, err := buildBreakerd(s, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if start {
		s.Start(t.Context(), p.tasks...)
	}
	w := &whole{service: s, Client: &routetest.Client{TB: t, Doc: &huma.OpenAPI{}}, url: url}
	w.Serve(p.listeners[0].Handler)
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
	want := make([]string, 0, 3)
	reset := func() {
		if err := admin.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{"?state=OPEN", "?state=OPEN&sort=worst", "?hold=none&state=OPEN,HALF_OPEN&reason=failures"} {
		one := newWhole(t, server.URL(), false)
		reset()
		one.Do("GET", listPath+query, "").Want(200, "total=200")
		scripts, all := commands(t, admin)
		if scripts < open || scripts > 2*open {
			t.Errorf("%s: %d scripts for %d open agents", query, scripts, open)
		}
		if all > 16*open { // a script's own commands count
			t.Errorf("%s: %d commands for %d open agents", query, all, open)
		}
		want = append(want, query)
	}
	for _, query := range append(want, "?limit=100", "?label=team%3Dpay") {
		one, many := w.costOf(t, admin, query, 1), w.costOf(t, admin, query, 50)
		if one != many {
			t.Errorf("%s: %d commands for one viewer, %d for 50", query, one, many)
		}
	}
}

// costOf counts the commands that the lists of a new replica need for so many viewers at once.
func (w *whole) costOf(t *testing.T, admin *redis.Client, query string, viewers int) int {
	t.Helper()
	for range 10 {
		one := newWhole(t, w.url, false)
		one.Do("GET", "/livez", "").Want(200)
		if err := admin.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		var all sync.WaitGroup
		for range viewers {
			all.Go(func() { one.Do(http.MethodGet, listPath+query, "").Want(200) })
		}
		all.Wait()
		if time.Since(begin) < time.Second { // else a second snapshot was due
			_, n := commands(t, admin)
			return n
		}
	}
	t.Fatal("this machine takes more than a second for a list, ten times")
	return 0
}
