package httpapi

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/testkit"
)

const listPath = "/v1/admin/circuit_breakers"

// mixed has one breaker of each kind.
func mixed(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	f.fail("probing", 5)
	f.advance(61 * time.Second)
	f.fail("calm", 1)
	f.fail("failing", 4)
	f.fail("tripped", 5)
	f.advance(time.Second)
	f.fail("tripped-late", 5)
	for _, r := range [][2]string{
		{"banned/open", `{"reason":"Flooding, by night","timeout_seconds":30,"actor":"alice"}`},
		{"locked/open", `{"reason":"fraud","protected":true}`},
		{"calm-held/open", `{"reason":"x"}`},
		{"calm-held/close", `{"reason":"known issue","force":true}`},
	} {
		f.Do("POST", listPath+"/"+r[0], r[1]).Want(200)
	}
	f.Do("PUT", listPath+"/failing/config", `{"failure_threshold":9}`).Want(201)
	f.Do("PUT", "/v1/admin/agents/failing", `{"contact":"ops@example.org","labels":{"team":"pay,in","tier":"1"}}`).Want(201)
	f.Do("PUT", "/v1/admin/agents/calm", `{"labels":{"team":"web"}}`).Want(201)
	if err := f.records.Put(overrides, "calm", `{"failure_threshold":"many"}`); err != nil { // by a hand
		t.Fatal(err)
	}
	return f
}

func TestList_Selects(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	for query, want := range map[string]string{
		"state=open":                           "banned locked tripped tripped-late",
		"state=OPEN,half_open&q=T":             "tripped tripped-late",
		"state=half_open&state=CLOSED":         "probing calm calm-held failing",
		"hold=any":                             "banned locked calm-held",
		"hold=open":                            "banned locked",
		"hold=CLOSED&hold=protected":           "locked calm-held",
		"hold=none&state=OPEN":                 "tripped tripped-late",
		"hold=none":                            "probing tripped tripped-late calm failing",
		"override=any":                         "calm failing",
		"override=invalid":                     "calm",
		"override=none&state=CLOSED":           "calm-held",
		"label=team%3Dpay,in":                  "failing",
		"label=team%3Dpay,in&label=tier%3D1":   "failing",
		"label=team%3Dpay,in&label=tier%3D2":   "",
		"reason=flood":                         "banned",
		"reason=consecutive&state=OPEN":        "tripped tripped-late",
		"reason=known&hold=closed":             "calm-held",
		"sort=agent_id&state=OPEN":             "banned locked tripped tripped-late",
		"sort=opened_at&state=OPEN":            "tripped banned locked tripped-late",
		"sort=timeout_until&state=OPEN&limit=": "banned tripped tripped-late locked",
		"sort=failure_rate":                    "calm failing probing tripped tripped-late banned calm-held locked",
		"sort=worst":                           "tripped tripped-late banned locked probing calm-held calm failing",
	} {
		g := f.Do("GET", listPath+"?"+query, "").Want(200)
		have := stateless(names(g))
		if have != want {
			t.Errorf("%s: %s, want %s", query, have, want)
		}
		if total := len(strings.Fields(want)); g.JSON["total"] != float64(total) || g.JSON["now_ms"] != float64(f.records.NowMs.Load()) {
			t.Errorf("%s: total %v of %d, now_ms %v", query, g.JSON["total"], total, g.JSON["now_ms"])
		}
	}
}

// stateless drops the states of [names].
func stateless(names string) string {
	all := strings.Fields(names)
	for i, name := range all {
		all[i], _, _ = strings.Cut(name, ":")
	}
	return strings.Join(all, " ")
}

func TestList_PagesOfEverySortCoverEverythingOnce(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	for _, sort := range sorts() {
		whole := names(f.Do("GET", listPath+"?sort="+sort, "").Want(200))
		var have []string
		for cursor := ""; ; {
			g := f.Do("GET", listPath+"?limit=2&sort="+sort+"&cursor="+cursor, "").Want(200, "total=8")
			have = append(have, strings.Fields(names(g))...)
			next, ok := g.JSON["next_cursor"].(string)
			if !ok {
				break
			}
			cursor = next
		}
		if strings.Join(have, " ") != whole {
			t.Errorf("by %s: %v, want %s", sort, have, whole)
		}
	}
}

func TestList_IncludesWindowAndProfile(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	f.Do("GET", listPath+"?q=failing&include=window,profile", "").Want(200,
		"circuit_breakers.0.window.calls=4", "circuit_breakers.0.window.failures=4", "circuit_breakers.0.window.seconds=120",
		`circuit_breakers.0.profile.contact="ops@example.org"`, `circuit_breakers.0.profile.labels.team="pay,in"`, "circuit_breakers.0.profile.url=null")
	f.Do("GET", listPath+"?q=tripped&include=PROFILE", "").Want(200, "circuit_breakers.0.window=null", "circuit_breakers.0.profile.contact=null")
	f.Do("GET", listPath, "").Want(200, "circuit_breakers.0.window=null", "circuit_breakers.0.profile=null")
}

func TestList_RefusesBadSelections(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	long := strings.Repeat("x", 129)
	for _, q := range []string{
		"state=OPEN,ajar", "state=,", "state=OPEN&state=%00", "state=" + strings.Repeat("OPEN,", 40), "hold=maybe", "hold=any,%0a", "override=any,none",
		"override=any&override=none", "override=yes", "label=team", "label==x", "label=a%20b%3Dc", "label=a%3D%0a", "label=a%3D" + strings.Repeat("x", 257),
		"label=a%3D1&label=a%3D2", "reason=" + long, "reason=a&reason=b", "q=a&q=b", "sort=worst,state", "sort=WORST", "include=everything", "include=window&include=",
		"cursor=d29yc3QgMXggYQ&sort=worst", "sort=worst&cursor=c3RhdGUgMCBh", "total=1",
	} {
		want := 422
		if q == "include=window&include=" {
			want = 200 // an empty value is none
		}
		if g := f.Do("GET", listPath+"?"+q, ""); g.Status != want || want == 422 && g.JSON["code"] != string(problem.InvalidValue) {
			t.Errorf("%s: %d %s", q, g.Status, g.Text)
		}
	}
}

// counting counts what a listing asks, and holds the first question until release is closed.
type counting struct {
	*records

	asked   atomic.Int64
	release chan struct{}
}

func (c *counting) NotClosed(ctx context.Context) (map[string]float64, error) {
	c.asked.Add(1)
	if c.release != nil {
		<-c.release
	}
	return c.records.NotClosed(ctx)
}

func (c *counting) Agents(ctx context.Context) ([]string, error) {
	c.asked.Add(1)
	return c.records.Agents(ctx)
}

func TestOverview_IsReadOnceForAllWhoAsk(t *testing.T) {
	t.Parallel()
	c := &counting{release: make(chan struct{})}
	f := newFixture(t, func(o *Options) {
		c.records, _ = o.Directory.(*records)
		o.Directory = c
	})
	f.fail("a", 5)
	f.fail("b", 1)
	var viewers sync.WaitGroup
	for range 50 {
		viewers.Go(func() { f.Do("GET", listPath, "").Want(200, `circuit_breakers.0.agent_id="a"`) })
	}
	time.AfterFunc(10*time.Millisecond, func() { close(c.release) })
	viewers.Wait()
	if n := c.asked.Load(); n != 2 { // both of one overview, unless this machine stood still for a second
		t.Errorf("50 viewers asked %d times", n)
	}
}

func TestOverview_GoesOnWhenItsCallerLeaves(t *testing.T) {
	t.Parallel()
	c := &counting{release: make(chan struct{})}
	f := newFixture(t, func(o *Options) {
		c.records, _ = o.Directory.(*records)
		o.Directory = c
	})
	f.fail("a", 5)
	a := &api{Options: Options{Manager: f.manager, Directory: c, Events: f.records}}
	s := newOverviews(a)
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	look := func(ctx context.Context, done chan<- error) {
		done <- s.with(ctx, func(_ context.Context, s *overview) error {
			if len(s.notes) != 1 {
				t.Errorf("noted: %v", s.notes)
			}
			return nil
		})
	}
	go look(ctx, first)
	testkit.Eventually(t, "the first to ask", time.Minute, func() error {
		if c.asked.Load() == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	waiting, giveUp := context.WithCancel(t.Context())
	go look(waiting, second)
	giveUp()
	if err := <-second; err == nil {
		t.Error("a waiter whose context ended was served")
	}
	leave()
	close(c.release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestOverview_ShowsAnOperatorWhatHeHasJustDone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 1)
	f.Do("GET", listPath+"?state=OPEN", "").Want(200, "total=0")
	f.Do("POST", listPath+"/a/open", `{"reason":"x"}`).Want(200)
	f.Do("GET", listPath+"?state=OPEN", "").Want(200, "total=1")
	f.Do("POST", listPath+"/a/reset", `{"target_state":"CLOSED"}`).Want(200)
	f.Do("GET", listPath+"?state=OPEN", "").Want(200, "total=0")
	f.Do("PUT", listPath+"/a/config", `{"failure_threshold":9}`).Want(201)
	f.Do("GET", listPath+"?override=any", "").Want(200, "total=1")
}

func TestOverview_ErrorIsSharedAndPasses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.records.TakeDown(false)
	f.Do("GET", listPath, "").WantProblem(503, problem.StoreUnavailable)
	f.records.Break(nil)
	f.Do("POST", listPath+"/a/reset", `{"target_state":"CLOSED"}`).Want(200)
	f.Do("GET", listPath, "").Want(200, "total=1")
}
