package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// TestHolds_ReplicaThatNeverCalledKnowsThemWhileRedisIsAway: bans and openings of others, told by events or found at the
// start.
func TestHolds_ReplicaThatNeverCalledKnowsThemWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"strict", "cached"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t)
			env := "CIRCUIT_BREAKER_CONSISTENCY=" + mode
			members := joinAll(t, 2, s.URL(), env)
			a := members[0]
			a.do("Protected", ban())
			a.do("Plain", breaker.Force{Target: breaker.HoldOpen, Reason: "for ever", Actor: "-"})
			a.do("Brief", breaker.Force{Target: breaker.HoldClosed, LengthMs: 1000, Reason: "a second", Actor: "-"})
			a.do("Lifted", breaker.Force{Target: breaker.HoldOpen, Reason: "a while", Actor: "-"})
			for range 5 {
				_ = a.Manager.Do(t.Context(), "Tripped", func(context.Context) error { return errors.New("down") })
			}
			agents := []string{"Protected", "Plain", "Brief", "Lifted", "Tripped"}
			members = append(members, join(t, s.URL(), env)) // after all that
			for _, m := range members[1:] {
				m.awaitKnown(agents...)
			}
			a.do("Lifted", breaker.Force{Target: breaker.ResetClosed, Actor: "-"})
			for _, m := range members[1:] {
				m.eventually("the hold to be known as lifted", func() error {
					m.holds.mu.Lock()
					defer m.holds.mu.Unlock()
					if _, ok := m.holds.known["Lifted"]; ok {
						return errors.New("it is not")
					}
					return nil
				})
			}
			a.eventually("the brief hold to end", func() error {
				if a.view("Brief").Hold.Kind != "" {
					return errors.New("it stands")
				}
				return nil
			})
			s.Kill()
			for _, m := range members[1:] {
				for agent, refused := range map[string]bool{
					"Protected": true, "Plain": true, "Tripped": true, "Brief": false, "Lifted": false, "Never seen": false,
				} {
					agent = strings.ReplaceAll(agent, " ", "-")
					if got := m.refuses(agent); got != refused || !m.Fallback.Degraded() {
						t.Errorf("%s: refused %v, want %v", agent, got, refused)
					}
				}
			}
		})
	}
}

// TestHolds_SweepCorrectsTheIndex of breakers that are not closed.
func TestHolds_SweepCorrectsTheIndex(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		m, ctx := joinAll(t, 1, s.url)[0], t.Context()
		const index = "circuit_breaker:notclosed"
		m.do("Banned", ban())
		m.do("Allowed", breaker.Force{Target: breaker.HoldClosed, Reason: "held", Actor: "-"})
		m.do("Ended", breaker.Force{Target: breaker.HoldClosed, LengthMs: 1, Reason: "held", Actor: "-"})
		for _, agent := range []string{"Edited", "Calm"} {
			_ = m.Manager.Do(ctx, agent, func(context.Context) error { return nil })
		}
		if err := m.index.flush(ctx); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(
			s.client.Set(ctx, "circuit_breaker:Edited:state", "open", 0).Err(), // no verb has met it
			s.client.ZAdd(ctx, index, redis.Z{Score: 1, Member: "Gone"}, redis.Z{Score: 2, Member: "Calm"},
				redis.Z{Score: 3, Member: "no name of an agent"}).Err(),
		)
		if err != nil {
			t.Fatal(err)
		}
		swept := func(holder string) []string {
			if err := s.client.Set(ctx, "circuit_breaker:sweeper", holder, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			if err := m.holds.sweep(ctx); err != nil {
				t.Fatal(err)
			}
			listed, err := m.Docs.NotClosed(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Sorted(maps.Keys(listed))
		}
		if got := swept("another"); !slices.Equal(got, []string{"Allowed", "Banned", "Calm", "Ended", "Gone"}) {
			t.Errorf("another replica's turn: %q", got)
		}
		if got := swept(m.ID); !slices.Equal(got, []string{"Allowed", "Banned", "Edited"}) {
			t.Errorf("swept: %q", got)
		}
		if err := errors.Join(s.client.Del(ctx, index).Err(), s.client.SAdd(ctx, index, "planted").Err()); err != nil {
			t.Fatal(err)
		}
		if got := swept(m.ID); !slices.Equal(got, []string{"Banned", "Edited"}) {
			t.Errorf("after the index was lost: %q", got)
		}
	})
}

// stub is a holds whose Redis is the test.
func stub(inspect func(agent string) breaker.View, identify func()) *holds {
	return &holds{
		inspect: func(_ context.Context, agent string) (breaker.View, error) { return inspect(agent), nil },
		learn:   func(string, breaker.View) {}, degraded: func() bool { return false }, most: 3,
		identify: func(context.Context) error { identify(); return nil },
		known:    map[string]knownBreaker{}, told: map[string]bool{}, refused: map[string]bool{}, wake: make(chan struct{}, 1), again: make(chan struct{}, 1), pace: newPace(),
	}
}

func heldView(protected int64) breaker.View {
	return breaker.View{NowMs: 1000, Snapshot: machine.Snapshot{
		State: breaker.Open, Hold: machine.Hold{Kind: breaker.Open, StartMs: 1000, Protected: protected},
	}}
}

func TestHolds_OneInspectionASecondOfAnAgentThatIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		h := stub(func(string) breaker.View { n.Add(1); return heldView(0) }, func() {})
		for range 1000 {
			h.tell("Busy", false)
			if err := h.inspectTold(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := n.Load(); got < 9 || got > 11 {
			t.Errorf("%d inspections in ten seconds", got)
		}
	})
}

// TestHolds_WhatIsReadWhileTheDataIsLostIsNotKept: the poll met a Redis that was empty already, and nobody had noticed.
func TestHolds_WhatIsReadWhileTheDataIsLostIsNotKept(t *testing.T) {
	t.Parallel()
	var h *holds
	lose := false
	var former map[string]protectedHold
	view := heldView(1)
	h = stub(func(string) breaker.View { return view }, func() {
		if lose {
			former, _ = h.surrender()
			lose = false
		}
	})
	read := func() {
		if err := h.read(t.Context(), map[string]float64{"Banned": 1}); err != nil {
			t.Fatal(err)
		}
	}
	read()
	lose, view = true, breaker.View{Snapshot: machine.Snapshot{State: breaker.Closed}}
	read()
	if _, ok := former["Banned"]; !ok || len(h.known) > 0 {
		t.Errorf("the hold was forgotten before the loss was noticed: %v, %v", former, h.known)
	}
}

// TestHolds_OnePutBackMeanwhileIsNotForgotten: a poll asked before the hold was put back, and its answer comes after.
func TestHolds_OnePutBackMeanwhileIsNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h *holds
		putBack := false
		h = stub(func(agent string) breaker.View {
			time.Sleep(time.Millisecond)
			if putBack && !h.settle(h.lossesNow(), agent, &protectedHold{reason: "ban"}) {
				t.Error("the hold was not remembered")
			}
			return breaker.View{Snapshot: machine.Snapshot{State: breaker.Closed}}
		}, func() {})
		for _, putBack = range []bool{true, false} { // put back, and then lifted
			time.Sleep(time.Millisecond)
			if err := h.read(t.Context(), map[string]float64{"Banned": 1}); err != nil {
				t.Fatal(err)
			}
			if _, ok := h.known["Banned"]; ok != putBack {
				t.Errorf("known %v, want %v", ok, putBack)
			}
		}
		losses := h.lossesNow()
		h.surrender()
		if h.settle(losses, "Banned", &protectedHold{}) || len(h.known) > 0 {
			t.Error("a hold of data that is lost counts as put back")
		}
	})
}

// narrow denies the user "replica" the breakers of all agents but those whose names begin so.
func narrow(t *testing.T, s *testkit.Server, prefix string) {
	t.Helper()
	run(t, s, "ACL", "SETUSER", "replica", "on", ">p", "resetkeys", "~circuit_breaker:[a-z]*", "~circuit_breaker:"+prefix+"*",
		"&*", "+@all")
}

func urlOfUser(s *testkit.Server) string { return "redis://replica:p@" + s.Addr + "/0" }

// TestHolds_AgentThatRedisRefusesIsAlone (litellm PR 35273, cerberus 2900): an ACL denies the breakers of some agents.
func TestHolds_AgentThatRedisRefusesIsAlone(t *testing.T) {
	t.Parallel()
	denied := []string{"Denied", "D", "Denied.two", "Bad", "Zebra", "H"}
	seen := []string{"Seen", "Seen-too", "SeenToo"}
	for name, c := range map[string]struct {
		at      string // what the user may read when the replica starts
		known   bool   // those that are denied later
		current bool
	}{
		"from the start":     {"Seen", false, true},
		"later":              {"", true, true},
		"and all the others": {"Nobody", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t)
			admin := joinAll(t, 1, s.URL())[0]
			for _, agent := range append(denied, seen...) {
				admin.do(agent, ban())
			}
			narrow(t, s, c.at)
			m := join(t, urlOfUser(s))
			if c.known {
				m.awaitKnown(append(denied, seen...)...)
				narrow(t, s, "Seen")
				m.holds.restart()
			}
			if c.current {
				m.awaitKnown(seen...)
			}
			m.eventually("a whole poll", func() error {
				m.holds.mu.Lock()
				defer m.holds.mu.Unlock()
				if len(m.holds.refused) < len(denied) || m.holds.whole || m.holds.current != c.current {
					return fmt.Errorf("refused %v, whole %v, current %v", m.holds.refused, m.holds.whole, m.holds.current)
				}
				return nil
			})
			if err := m.holds.poll(t.Context()); err != nil {
				t.Error(err)
			}
			for _, agent := range denied {
				if n := len(linesOf(agent, "hold_unreadable", []*member{m})); n != 1 {
					t.Errorf("%s: %d lines", agent, n)
				}
			}
			s.Kill()
			for _, agent := range denied {
				if got := m.refuses(agent); got != c.known {
					t.Errorf("%s: refused %v, want what was known of it", agent, got)
				}
			}
			for _, agent := range seen {
				if got := m.refuses(agent); got != c.current {
					t.Errorf("%s: refused %v, want %v", agent, got, c.current)
				}
			}
		})
	}
}

// TestHolds_SweepGoesOnBesideAgentsThatRedisRefuses, wherever they stand in the index.
func TestHolds_SweepGoesOnBesideAgentsThatRedisRefuses(t *testing.T) {
	t.Parallel()
	const index = "circuit_breaker:notclosed"
	for _, denied := range [][]string{
		{"Denied"}, {"Alpha"}, {"Zebra"}, {"Alpha", "Beta"}, {"Alpha", "Middle", "Zebra"}, {"A", "B", "C", "D", "E", "F"},
	} {
		t.Run(strings.Join(denied, " "), func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t)
			client := s.Client(t)
			narrow(t, s, "Seen")
			admin, m := joinAll(t, 1, s.URL())[0], join(t, urlOfUser(s))
			for _, agent := range append(denied, "SeenBanned") {
				admin.do(agent, ban())
			}
			if err := errors.Join(
				client.ZAdd(t.Context(), index, redis.Z{Score: 1, Member: "SeenCalm"}).Err(),
				client.Set(t.Context(), "circuit_breaker:SeenEdited:state", "open", 0).Err(),
				admin.Docs.MarkSeen(t.Context(), append(denied, "SeenEdited", "SeenCalm")),
				client.ZRem(t.Context(), index, denied[0]).Err(), // refused where it is listed, and where it is not
				client.Set(t.Context(), "circuit_breaker:sweeper", m.ID, time.Hour).Err(),
			); err != nil {
				t.Fatal(err)
			}
			if err := m.holds.sweep(t.Context()); err != nil {
				t.Error(err)
			}
			listed, err := m.Docs.NotClosed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(denied[1:]), "SeenBanned", "SeenEdited")
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(listed)); !slices.Equal(got, want) {
				t.Errorf("swept: %q, want %q", got, want)
			}
		})
	}
}

func TestHolds_ProtectedOnesAreKnownBeyondTheBound(t *testing.T) {
	t.Parallel()
	protected := int64(0)
	h := stub(func(string) breaker.View { return heldView(protected) }, func() {})
	names := func(prefix string) map[string]float64 {
		agents := map[string]float64{}
		for i := range 10 {
			agents[prefix+strconv.Itoa(i)] = 1
		}
		return agents
	}
	for _, prefix := range []string{"Plain", "Protected"} {
		if err := h.read(t.Context(), names(prefix)); err != nil {
			t.Fatal(err)
		}
		protected = 1
	}
	if got := len(h.known); got != 13 {
		t.Errorf("%d are known, want 3 and 10 protected ones", got)
	}
}

func TestResets_HealthShowsALossForTenMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := &resets{}
		if text, _ := x.status(); text != "" {
			t.Error("no loss is shown")
		}
		x.last, x.text = time.Now(), "gone"
		time.Sleep(10 * time.Minute)
		if text, pending := x.status(); !strings.HasSuffix(text, "Z: gone") || pending {
			t.Errorf("%q, %v", text, pending)
		}
		time.Sleep(time.Second)
		if text, _ := x.status(); text != "" {
			t.Error("it is shown for ever")
		}
		x.pending = &storeReset{}
		if text, pending := x.status(); text == "" || !pending {
			t.Error("a loss that is not dealt with is not shown")
		}
	})
}

// TestHolds_FleetIsRemindedOnceBeforeAHoldEnds, whichever replicas sweep, and not of one that was lifted or is short.
func TestHolds_FleetIsRemindedOnceBeforeAHoldEnds(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		members, ctx := joinAll(t, 3, s.url), t.Context()
		soon := remindBefore.Milliseconds() + 500
		for agent, length := range map[string]int64{
			"Soon": soon, "Lifted": soon, "Later": 2 * soon, "Short": remindBefore.Milliseconds(), "Endless": 0,
		} {
			members[0].do(agent, breaker.Force{Target: breaker.HoldOpen, LengthMs: length, Reason: "flooding", Actor: "alice"})
		}
		for _, m := range members {
			m.awaitKnown("Soon", "Lifted", "Later", "Short", "Endless")
		}
		members[0].do("Lifted", breaker.Force{Target: breaker.ResetClosed, Actor: "alice"})
		reminders := func() (said []string) {
			read, err := members[0].Docs.Entries(ctx, events.All, events.ID{}, events.Last(), 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range read {
				if e.Event.Kind == redisstore.EventHoldEndsSoon {
					said = append(said, e.Agent+" "+e.Event.Text)
				}
			}
			return said
		}
		sweep := func() {
			for _, m := range members {
				if err := m.holds.remind(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		members[0].eventually("a reminder", func() error {
			sweep()
			if len(reminders()) == 0 {
				return errors.New("none")
			}
			return nil
		})
		sweep()
		got := reminders()
		if len(got) != 1 || !strings.HasPrefix(got[0], "Soon held OPEN until 20") || !strings.HasSuffix(got[0], "Z: flooding") {
			t.Errorf("%q", got)
		}
		members[0].do("Soon", breaker.Force{Target: breaker.HoldOpen, LengthMs: soon, Reason: "again", Actor: "alice"})
		members[0].eventually("a reminder of the hold that replaced it", func() error {
			sweep()
			if len(reminders()) != 2 {
				return errors.New("none")
			}
			return nil
		})
	})
}
