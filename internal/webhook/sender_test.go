package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{}) // connections break when a server ends
	goleak.VerifyTestMain(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// shop is a Redis, and the fleet's stream in it.
type shop struct {
	t      *testing.T
	client redis.UniversalClient
	docs   *redisdocs.Docs
	keys   redisstore.Keys
}

// onEachEngine runs a test on miniredis, on a server and on a Cluster.
func onEachEngine(t *testing.T, test func(t *testing.T, s *shop)) {
	t.Helper()
	for name, url := range map[string]func(*testing.T) string{
		"miniredis": func(*testing.T) string { return "embedded://" },
		"redis":     func(t *testing.T) string { t.Helper(); return testkit.Start(t).URL() },
		"cluster":   func(t *testing.T) string { t.Helper(); return testkit.StartCluster(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "cluster" {
				t.Skip("make quick leaves the Cluster out")
			}
			test(t, newShop(t, url(t)))
		})
	}
}

func newShop(t *testing.T, url string) *shop {
	t.Helper()
	conn, err := redisstore.Open(t.Context(), url, redisstore.Options{Timeout: 5 * time.Second, Embedded: embedded.Start})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	docs := redisdocs.New(store, conn.Client, redisdocs.Config{MaxAgents: 10, Timeout: 5 * time.Second})
	return &shop{t, conn.Client, docs, store.Keys()}
}

// happen adds an event to the stream, "kind from>to", and returns its id.
func (s *shop) happen(agent, what string) string {
	s.t.Helper()
	e, ok := machine.ParseEvent("1770800400000 " + what + " 00000000000000aa - 5/6/5/0 why")
	if !ok {
		s.t.Fatal(what)
	}
	id, err := s.client.XAdd(s.t.Context(), &redis.XAddArgs{
		Stream: s.keys.Stream(), Values: []any{"agent", agent, "event", e.String()},
	}).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// flaky is a Redis that a replica may be cut off from, and whose clock may be ahead.
type flaky struct {
	*redisdocs.Docs

	cut   atomic.Bool
	fails atomic.Int64 // saves that come to nothing
	ahead atomic.Int64 // ms
}

var errCut = errors.New("cut off")

func (f *flaky) ClaimHook(
	ctx context.Context, hook, holder string, lease time.Duration, all bool,
) (h redisdocs.Hook, err error) {
	if f.cut.Load() {
		return h, errCut
	}
	h, err = f.Docs.ClaimHook(ctx, hook, holder, lease, all)
	h.NowMs += f.ahead.Load()
	return h, err
}

func (f *flaky) SaveHook(
	ctx context.Context, hook, holder string, lease time.Duration, set map[string]string, del []string,
) (bool, error) {
	if f.cut.Load() || f.fails.Add(-1) >= 0 {
		return false, errCut
	}
	return f.Docs.SaveHook(ctx, hook, holder, lease, set, del)
}

func (f *flaky) Entries(
	ctx context.Context, stream events.Stream, from, to events.ID, n int,
) ([]events.Entry, error) {
	if f.cut.Load() {
		return nil, errCut
	}
	return f.Docs.Entries(ctx, stream, from, to, n)
}

// member is a replica.
type member struct {
	*Hooks

	store   *flaky
	log     *testkit.Buffer
	counts  sync.Map // result -> *atomic.Int64
	die     func()   // as a crash: it leaves its lease behind
	stopped chan struct{}
}

func (m *member) counted(result string) int64 {
	n, _ := m.counts.LoadOrStore(result, new(atomic.Int64))
	count, _ := n.(*atomic.Int64)
	return count.Load()
}

// join starts a replica, whose times are a tenth of the usual ones, or less.
func (s *shop) join(name, path string, change ...func(*timing)) *member {
	s.t.Helper()
	m := &member{store: &flaky{Docs: s.docs}, log: new(testkit.Buffer), stopped: make(chan struct{})}
	var err error
	m.Hooks, err = New(Options{
		Path: path, Store: m.store, Replica: name, Version: name, Log: slog.New(slog.NewJSONHandler(m.log, nil)),
		Count: func(_, result string, n int) {
			m.counted(result)
			held, _ := m.counts.Load(result)
			count, _ := held.(*atomic.Int64)
			count.Add(int64(n))
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	m.timing = timing{
		lease: time.Second, idle: 20 * time.Millisecond, least: time.Millisecond, try: 500 * time.Millisecond,
		margin: 100 * time.Millisecond, first: 5 * time.Millisecond, most: 20 * time.Millisecond, giveUp: time.Minute,
	}
	for _, c := range change {
		c(&m.timing)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(m.stopped)
		m.Run(ctx)
	}()
	m.die = func() {
		m.store.cut.Store(true)
		cancel()
	}
	s.t.Cleanup(func() {
		cancel()
		<-m.stopped
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, m.log)
		}
	})
	return m
}

// receiver is where messages go.
type receiver struct {
	*httptest.Server

	t      *testing.T
	mu     sync.Mutex
	got    []taken
	busy   int
	answer func(n int, r *http.Request) int // the status of the n-th request; 0: 200
}

// taken is a request, answered with 200.
type taken struct {
	id, from, body, signature string
}

func receive(t *testing.T, answer func(n int, r *http.Request) int) *receiver {
	t.Helper()
	rec := &receiver{t: t, answer: answer}
	requests := 0
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		requests++
		n := requests
		if rec.busy++; rec.busy > 1 {
			t.Errorf("%d messages at a time", rec.busy)
		}
		rec.mu.Unlock()
		status := http.StatusOK
		if answer != nil {
			if s := answer(n, r); s != 0 {
				status = s
			}
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.busy--
		if status == http.StatusOK {
			rec.got = append(rec.got, taken{
				r.Header.Get(headerID), r.UserAgent(), string(body), r.Header.Get("X-Breakerd-Signature"),
			})
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(rec.Close)
	return rec
}

func (r *receiver) ids() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.got {
		ids = append(ids, m.id)
	}
	return ids
}

func (r *receiver) await(ids ...string) {
	r.t.Helper()
	testkit.Eventually(r.t, "messages", 20*time.Second, func() error {
		if got := r.ids(); !slices.Equal(got, ids) {
			return fmt.Errorf("got %q, want %q", got, ids)
		}
		return nil
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// file is a WEBHOOKS_FILE.
func file(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "webhooks.yaml")
	write(t, path, text)
	return path
}

// awaitSender waits until one of the members has a hook's lease, and has read what Redis has of it.
func (s *shop) awaitSender(hook string, members ...*member) (is *member) {
	s.t.Helper()
	testkit.Eventually(s.t, "a sender", 20*time.Second, func() error {
		h, err := s.docs.ReadHook(s.t.Context(), hook, fieldCursor)
		if err != nil {
			return err
		}
		for _, m := range members {
			if h.Holder == m.holder && h.Fields[fieldCursor] != "" {
				is = m
				return nil
			}
		}
		return fmt.Errorf("the sender is %q", h.Holder)
	})
	return is
}

// awaitCursor waits until Redis has the cursor of the first hook.
func (m *member) awaitCursor(t *testing.T, id string) {
	t.Helper()
	testkit.Eventually(t, "the cursor", 20*time.Second, func() error {
		if v, err := m.List(t.Context()); err != nil || *v[0].Cursor != id {
			return fmt.Errorf("%+v, %w", v, err)
		}
		return nil
	})
}

// TestHook_SenderDiesTwice: each event comes at least once, in order, from one replica at a time. A replica dies, the
// first time when the receiver has taken a message and it could not be noted, the second time while the receiver hangs.
func TestHook_SenderDiesTwice(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		const all, first, second = 120, 30, 70
		var members []*member
		sender := func(r *http.Request) *member {
			i := slices.IndexFunc(members, func(m *member) bool { return "breakerd/"+m.version == r.UserAgent() })
			return members[i]
		}
		rec := receive(t, func(n int, r *http.Request) int {
			switch n {
			case first:
				sender(r).die()
			case second:
				sender(r).die()
				<-r.Context().Done()
				return http.StatusServiceUnavailable
			}
			return 0
		})
		path := file(t, "- {url: "+rec.URL+", name: pager}")
		for i := range 3 {
			members = append(members, s.join(fmt.Sprintf("r%d", i), path))
		}
		s.awaitSender("pager", members...)
		var want []string
		for i := range all {
			want = append(want, s.happen(fmt.Sprint("agent-", i), "opened closed>open"))
		}
		testkit.Eventually(t, "all messages", 30*time.Second, func() error {
			if n := len(rec.ids()); n < all+1 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		var from []string
		for _, m := range rec.got {
			from = append(from, m.from)
		}
		again := slices.Insert(slices.Clone(want), first, want[first-1]) // the one that was taken and not noted
		if got := rec.ids(); !slices.Equal(got, again) {
			t.Errorf("got\n%q, want\n%q", got, again)
		}
		if turns := slices.Compact(from); len(turns) != 3 {
			t.Errorf("sent by %q", turns)
		}
	})
}

// TestHook_SenderThatIsCutOffSendsNoMore, though nobody has told it, and it still has messages.
func TestHook_SenderThatIsCutOffSendsNoMore(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		var members []*member
		var cut *member
		var late atomic.Int64
		rec := receive(t, func(n int, r *http.Request) int {
			switch {
			case n == 1:
				cut.store.cut.Store(true)
			case r.UserAgent() == "breakerd/"+cut.version:
				late.Add(1)
			}
			return 0
		})
		path := file(t, "- {url: "+rec.URL+", name: pager}")
		for i := range 2 {
			members = append(members, s.join(fmt.Sprintf("r%d", i), path))
		}
		cut = s.awaitSender("pager", members...)
		a, b := s.happen("a", "opened closed>open"), s.happen("b", "opened closed>open")
		rec.await(a, a, b)
		cut.store.cut.Store(false) // it comes back, and waits for its turn
		c := s.happen("c", "opened closed>open")
		rec.await(a, a, b, c)
		if late.Load() != 0 {
			t.Errorf("it sent %d messages without a lease", late.Load())
		}
	})
}

// TestHook_WhatWasTakenIsNotSentAgain because it could not be noted at once, as long as the sender lives.
func TestHook_WhatWasTakenIsNotSentAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, "embedded://")
	var m *member
	rec := receive(t, func(int, *http.Request) int { m.store.fails.Store(3); return 0 })
	m = s.join("r0", file(t, "- {url: "+rec.URL+", name: pager}"))
	s.awaitSender("pager", m)
	a, b := s.happen("a", "opened closed>open"), s.happen("b", "opened closed>open")
	m.awaitCursor(t, b)
	rec.await(a, b)
}

// TestHook_FailingReceiverIsTriedAgainAndGivenUp, and keeps no other hook waiting.
func TestHook_FailingReceiverIsTriedAgainAndGivenUp(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		statuses := []int{500, 404, 302}
		failing := receive(t, func(n int, _ *http.Request) int {
			if n <= len(statuses) {
				return statuses[n-1]
			}
			return 0
		})
		refusing := receive(t, func(_ int, r *http.Request) int {
			if r.Header.Get(headerID) == "1-1" || r.URL.Path == "/elsewhere" {
				return 0
			}
			return http.StatusTeapot
		})
		hanging := receive(t, func(_ int, r *http.Request) int { <-r.Context().Done(); return http.StatusTeapot })
		healthy := receive(t, nil)
		var text strings.Builder
		for name, url := range map[string]string{
			"failing": failing.URL, "hanging": hanging.URL, "healthy": healthy.URL, "refusing": refusing.URL,
			"absent": "http://127.0.0.1:1",
		} {
			fmt.Fprintf(&text, "- {url: '%s/SECRET', name: %s}\n", url, name)
		}
		m := s.join("r0", file(t, text.String()), func(t *timing) { t.giveUp, t.try = 1500*time.Millisecond, 50*time.Millisecond })
		for _, name := range []string{"refusing", "absent", "failing", "hanging", "healthy"} {
			s.awaitSender(name, m)
		}
		a, b := s.happen("a", "opened closed>open"), s.happen("-", "gate >")
		healthy.await(a, b)
		failing.await(a, b)
		var views []View
		testkit.Eventually(t, "dead letters", 20*time.Second, func() (err error) {
			if views, err = m.List(t.Context()); err == nil && (views[0].DeadLetters != 2 || views[4].DeadLetters != 2) {
				err = errors.New("too few")
			}
			return err
		})
		for _, name := range []string{"refusing", "absent", "hanging"} {
			i := slices.IndexFunc(views, func(v View) bool { return v.Name == name })
			testkit.Eventually(t, "dead letters of "+name, 20*time.Second, func() (err error) {
				if views, err = m.List(t.Context()); err == nil && (views[i].DeadLetters != 2 || views[i].LagEvents != 0) {
					err = fmt.Errorf("%+v", views[i])
				}
				return err
			})
			v := views[i]
			if len(v.Dead) != 2 || v.Dead[0].ID != b || v.Dead[1].ID != a || v.Dead[1].Agent != "a" || v.Dead[0].Tries < 2 ||
				v.Dead[1].Event != "opened" || v.LastError == nil || *v.Cursor != b || *v.Sender != "r0" || v.Sent != 0 {
				t.Errorf("%s: %+v", name, v)
			}
			if name == "refusing" && *v.LastError != "answered 418 I'm a teapot" {
				t.Errorf("%q", *v.LastError)
			}
		}
		shown, err := json.Marshal(views)
		if err != nil || strings.Contains(string(shown)+m.log.String(), "SECRET") {
			t.Errorf("%v: the path of a url is shown:\n%s\n%s", err, shown, m.log)
		}
		if m.counted(resultDead) != 6 || m.counted(resultSent) != 4 || m.counted(resultFailed) < 9 {
			t.Errorf("%d dead, %d sent, %d failed", m.counted(resultDead), m.counted(resultSent), m.counted(resultFailed))
		}
	})
}

// TestHook_AnswerWithoutEndIsCutOff: the status counts.
func TestHook_AnswerWithoutEndIsCutOff(t *testing.T) {
	t.Parallel()
	s := newShop(t, "embedded://")
	var ids sync.Map
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, again := ids.LoadOrStore(r.URL.Path+r.Header.Get(headerID), true)
		if again {
			t.Errorf("%s comes again", r.Header.Get(headerID))
		}
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1024))
			if r.URL.Path == "/slow" {
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		}
	}))
	t.Cleanup(endless.Close)
	for _, path := range []string{"/slow", "/much"} {
		m := s.join("r0", file(t, "- {name: '"+path[1:]+"', url: '"+endless.URL+path+"'}"))
		s.awaitSender(path[1:], m)
		s.happen("a", "opened closed>open")
		m.awaitCursor(t, s.happen("b", "opened closed>open"))
		if m.counted(resultSent) != 2 || m.counted(resultFailed) != 0 {
			t.Errorf("%s: %d sent, %d failed", path, m.counted(resultSent), m.counted(resultFailed))
		}
	}
}

// TestHook_TriesGoOnAtTheNextSender: what was tried in vain is not begun anew.
func TestHook_TriesGoOnAtTheNextSender(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		rec := receive(t, func(int, *http.Request) int { return 500 })
		path := file(t, "- {url: "+rec.URL+", name: pager}")
		long := func(t *timing) { t.first, t.most, t.giveUp = time.Hour, time.Hour, 100*time.Hour }
		a := s.join("r0", path, long)
		s.awaitSender("pager", a)
		id := s.happen("a", "opened closed>open")
		tried := func(m *member, n int) View {
			t.Helper()
			var v View
			testkit.Eventually(t, "a try", 20*time.Second, func() error {
				views, err := m.List(t.Context())
				if err != nil || views[0].Tries != n || views[0].Sender == nil || *views[0].Sender != m.version {
					return fmt.Errorf("%+v, %w", views, err)
				}
				v = views[0]
				return nil
			})
			return v
		}
		tried(a, 1)
		a.die()
		<-a.stopped
		b := s.join("r1", path, long)
		if v := tried(b, 1); v.LagEvents != 1 || v.DeadLetters != 0 || *v.Cursor == id || v.NextTryAt == nil || *v.LastError == "" {
			t.Errorf("%+v", v)
		}
		if n := b.counted(resultFailed); n != 0 {
			t.Errorf("it was tried %d times", n)
		}
	})
}

func TestHook_EventsThatTheStreamHasLostAreADeadLetter(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		rec := receive(t, nil)
		path := file(t, "- {url: "+rec.URL+", name: pager}")
		a := s.join("r0", path)
		s.awaitSender("pager", a)
		first := s.happen("a", "opened closed>open")
		rec.await(first)
		a.awaitCursor(t, first)
		a.die()
		<-a.stopped
		s.happen("b", "opened closed>open")
		last := s.happen("c", "opened closed>open")
		if err := s.client.XTrimMaxLen(t.Context(), s.keys.Stream(), 1).Err(); err != nil {
			t.Fatal(err)
		}
		b := s.join("r1", path)
		rec.await(first, last)
		testkit.Eventually(t, "the dead letter", 10*time.Second, func() error { // it is kept once the message was taken
			views, err := b.List(t.Context())
			if err != nil || views[0].DeadLetters != 1 || views[0].Dead[0].Event != "lost" || views[0].Dead[0].ID != first {
				return fmt.Errorf("%+v: %w", views, errors.Join(errors.New("it is not there"), err))
			}
			return nil
		})
		next := s.happen("d", "opened closed>open")
		rec.await(first, last, next)
		if views, err := b.List(t.Context()); err != nil || views[0].DeadLetters != 1 {
			t.Errorf("%+v, %v", views, err)
		}
	})
}

// TestHook_RedisLosesItsData: what happens after that is told, and nothing from before.
func TestHook_RedisLosesItsData(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		rec := receive(t, nil)
		m := s.join("r0", file(t, "- {url: "+rec.URL+", name: pager}"))
		s.awaitSender("pager", m)
		first := s.happen("a", "opened closed>open")
		rec.await(first)
		m.store.cut.Store(true) // it does not notice at once
		for _, key := range []string{s.keys.Webhook("pager"), s.keys.Stream()} {
			if err := s.client.Del(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
		}
		reset := s.happen("-", "store_reset >")
		m.store.cut.Store(false)
		rec.await(first, reset)
		if err := s.client.Set(t.Context(), s.keys.Webhook("pager"), "planted", 0).Err(); err != nil {
			t.Fatal(err)
		}
		next := s.happen("b", "opened closed>open")
		rec.await(first, reset, next)
	})
}

func TestHook_FlappingIsTwoMessages(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s *shop) {
		rec := receive(t, nil)
		path := file(t, "- {url: "+rec.URL+", name: pager}")
		a := s.join("r0", path)
		s.awaitSender("pager", a)
		first := s.happen("a", "opened closed>open")
		for range 20 {
			s.happen("a", "half_opened open>half_open")
			s.happen("a", "closed half_open>closed")
			s.happen("a", "opened closed>open")
		}
		s.happen("a", "half_opened open>half_open")
		closed := s.happen("a", "closed half_open>closed")
		gate := s.happen("-", "gate >")
		rec.await(first, gate)
		a.awaitCursor(t, gate)
		a.die() // the count goes on at the next sender
		<-a.stopped
		b := s.join("r1", path)
		s.awaitSender("pager", b)
		b.store.ahead.Store((calmAfter + time.Second).Milliseconds())
		rec.await(first, gate, closed)
		var m message
		if err := json.Unmarshal([]byte(rec.got[2].body), &m); err != nil || m.Episode.Openings != 21 || !m.Episode.Over {
			t.Errorf("%s, %v", rec.got[2].body, err)
		}
	})
}

// TestHook_FileChangesWhileItRuns: a hook comes, goes on elsewhere, and goes; a bad file changes nothing, and says why
// in place of what it holds.
func TestHook_FileChangesWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newShop(t, "embedded://")
	one, two := receive(t, nil), receive(t, nil)
	path := file(t, "- {url: "+one.URL+", name: a}")
	m := s.join("r0", path)
	s.awaitSender("a", m)
	first := s.happen("a", "opened closed>open")
	one.await(first)
	write(t, path, "- {url: "+two.URL+", name: a}\n- {url: "+one.URL+", name: b, kinds: [gate]}")
	s.awaitSender("b", m)
	second, gate := s.happen("b", "opened closed>open"), s.happen("-", "gate >")
	two.await(second, gate)
	one.await(first, gate)
	write(t, path, "- {url: "+one.URL+", name: a, secret: hunter2}")
	testkit.Eventually(t, "a problem", 20*time.Second, func() error {
		if m.Problem() == nil {
			return errors.New("none")
		}
		return nil
	})
	third := s.happen("c", "opened closed>open")
	two.await(second, gate, third)
	if strings.Count(m.log.String(), "webhooks not taken") != 1 || strings.Contains(m.log.String()+m.Problem().Error(), "hunter2") {
		t.Errorf("%v\n%s", m.Problem(), m.log)
	}
	write(t, path, "[]")
	testkit.Eventually(t, "no problem", 20*time.Second, m.Problem)
	views, err := m.List(t.Context())
	if err != nil || len(views) != 0 {
		t.Errorf("%+v, %v", views, err)
	}
	testkit.Eventually(t, "the lease of a hook that is gone to be given back", 20*time.Second, func() error {
		h, err := s.docs.ReadHook(t.Context(), "a")
		if h.Holder != "" {
			return errors.New(h.Holder)
		}
		return err
	})
}

// TestHook_SignatureIsWhatOpenSSLComputes, for each secret of a file that changes meanwhile.
func TestHook_SignatureIsWhatOpenSSLComputes(t *testing.T) {
	t.Parallel()
	s := newShop(t, "embedded://")
	rec := receive(t, nil)
	secret := file(t, "one\n")
	m := s.join("r0", file(t, "- {url: "+rec.URL+", name: a, secret_file: "+secret+"}"))
	s.awaitSender("a", m)
	verify := func(n int, secrets ...string) {
		t.Helper()
		got := rec.got[n]
		parts := strings.Split(got.signature, ",")
		at, is := strings.CutPrefix(parts[0], "t=")
		if !is || len(parts) != 1+len(secrets) {
			t.Fatalf("signature %q", got.signature)
		}
		for i, secret := range secrets {
			c := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-hmac", secret, "-r")
			c.Stdin = strings.NewReader(at + "." + got.body)
			out, err := c.Output()
			if sum, _, _ := strings.Cut(string(out), " "); err != nil || parts[1+i] != "v1="+sum {
				t.Errorf("%q: openssl says %q, %v", got.signature, out, err)
			}
		}
	}
	a := s.happen("a", "opened closed>open")
	rec.await(a)
	verify(0, "one")
	write(t, secret, "one\ntwo\n")
	b := s.happen("b", "opened closed>open")
	rec.await(a, b)
	verify(1, "one", "two")
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	c := s.happen("c", "opened closed>open")
	rec.await(a, b, c)
	verify(2, "one", "two")
	var got message
	if err := json.Unmarshal([]byte(rec.got[0].body), &got); err != nil || got.ID != a || *got.AgentID != "a" || got.Failures != 5 || got.Reason != "why" {
		t.Errorf("%s, %v", rec.got[0].body, err)
	}
}
