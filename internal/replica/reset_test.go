package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	longReason = "flooding quarantine: 40,000 calls in a minute from one tenant, ticket OPS-4711, ask the security team before you lift it"
	banLength  = time.Hour
)

// ban is a protected hold.
func ban() breaker.Force {
	return breaker.Force{
		Target: breaker.HoldOpen, LengthMs: banLength.Milliseconds(), Reason: longReason, Actor: "alice", Protected: true,
	}
}

// skipShort skips a test that waits for heartbeats, with -short.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it waits for heartbeats: seconds, whatever the machine")
	}
}

// call calls an agent through replicas all the time, until the test ends.
func call(t *testing.T, agent string, members ...*member) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	for _, m := range members {
		wg.Go(func() {
			tick := time.NewTicker(3 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				_ = m.Manager.Do(ctx, agent, func(context.Context) error { return nil })
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
}

// TestReset_ProtectedHoldsComeBackUnderTraffic: a Redis that comes back empty closes every breaker, and a ban that an
// operator has protected is put back, by one replica, with what is left of it.
func TestReset_ProtectedHoldsComeBackUnderTraffic(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3} {
		t.Run(strconv.Itoa(n)+" replicas", func(t *testing.T) {
			t.Parallel()
			onEachEngine(t, func(t *testing.T, s shop) { protectedHoldsComeBack(t, s, n) })
		})
	}
}

func protectedHoldsComeBack(t *testing.T, s shop, n int) {
	members := joinAll(t, n, s.url)
	a := members[0]
	begun := time.Now()
	a.do("Banned", ban())
	a.do("Trusted", breaker.Force{Target: breaker.HoldClosed, Reason: "trusted", Actor: "-", Protected: true})
	a.do("Plain", breaker.Force{Target: breaker.HoldOpen, Reason: "not protected", Actor: "alice"})
	a.do("Brief", breaker.Force{Target: breaker.HoldOpen, LengthMs: 2000, Reason: "ends meanwhile", Actor: "alice", Protected: true})
	for range 5 {
		_ = a.Manager.Do(t.Context(), "Tripped", func(context.Context) error { return errors.New("down") })
	}
	for _, m := range members {
		m.awaitKnown("Banned", "Trusted", "Plain", "Brief", "Tripped")
	}
	call(t, "Banned", members...)
	if err := s.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	v := a.awaitHold("Banned", breaker.Open)
	left := time.Duration(v.DeadlineMs()-v.NowMs) * time.Millisecond
	if want := banLength - time.Since(begun); left < want-2*time.Second || left > want+2*time.Second {
		t.Errorf("%v of the hold are left, want %v", left, want)
	}
	if v.Hold.Actor != "alice" || v.Hold.Protected != 1 || v.State != breaker.Open {
		t.Errorf("hold %+v, state %s", v.Hold, v.State)
	}
	if e := v.Log[0]; e.Kind != machine.EventManualOpen || e.Actor != "alice" || e.Text != longReason+restored {
		t.Errorf("the log says %s", e)
	}
	if v := a.awaitHold("Trusted", breaker.Closed); v.DeadlineMs() != 0 || v.Hold.Protected != 1 || v.Hold.Actor != "-" {
		t.Errorf("hold without end: %+v", v.Hold)
	}
	restores := 0
	for _, m := range members {
		m.awaitLogged("store_reset")
		m.awaitLogged("store_reset_done")
		restores += len(m.logged("hold_restored"))
		if text, pending := m.DataLoss(); text == "" || pending {
			t.Errorf("health: %q, %v", text, pending)
		}
		if n := m.resets.noticed.Load(); n != 1 {
			t.Errorf("%d losses were counted", n)
		}
		if !m.refuses("Banned") {
			t.Errorf("%s admits calls", m.ID)
		}
	}
	if restores != 2 {
		t.Errorf("%d holds were put back, want 2", restores)
	}
	for _, agent := range []string{"Plain", "Tripped", "Brief"} {
		if v := a.view(agent); v.State != breaker.Closed || v.Hold.Kind != "" || len(v.Log) > 0 {
			t.Errorf("%s: %s, hold %+v, %v", agent, v.State, v.Hold, v.Log)
		}
	}
	if got := announced(t, s.client); len(got) != 1 || !strings.Contains(got[0], " store_reset > ") {
		t.Errorf("the stream has %q", got)
	}
}

func (m *member) refuses(agent string) bool {
	_, err := m.Manager.Acquire(m.t.Context(), agent)
	_, refused := errors.AsType[*breaker.OpenError](err)
	return refused
}

// announced reads the stream's events of no agent.
func announced(t *testing.T, client redis.UniversalClient) (events []string) {
	t.Helper()
	entries, err := client.XRange(t.Context(), "circuit_breaker:stream", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Values["agent"] == "-" {
			events = append(events, fmt.Sprint(e.Values["event"]))
		}
	}
	return events
}

// TestReset_EveryWayToLoseTheData is noticed, and a protected hold comes back.
func TestReset_EveryWayToLoseTheData(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for name, lose := range map[string]func(t *testing.T, s *testkit.Server, p *proxy){
		"FLUSHALL": func(t *testing.T, s *testkit.Server, _ *proxy) { run(t, s, "FLUSHALL") },
		"FLUSHDB":  func(t *testing.T, s *testkit.Server, _ *proxy) { run(t, s, "FLUSHDB") },
		"SWAPDB":   func(t *testing.T, s *testkit.Server, _ *proxy) { run(t, s, "SWAPDB", "0", "1") },
		"DEL of every key": func(t *testing.T, s *testkit.Server, _ *proxy) {
			run(t, s, "EVAL", "return redis.call('DEL', unpack(redis.call('KEYS', '*')))", "0")
		},
		"FLUSHALL twice": func(t *testing.T, s *testkit.Server, _ *proxy) {
			run(t, s, "FLUSHALL")
			testkit.Eventually(t, "the first loss to be noticed", 20*time.Second, func() error {
				return s.Client(t).Get(t.Context(), "circuit_breaker:born").Err()
			})
			run(t, s, "FLUSHALL")
		},
		"a restart without persistence":    func(_ *testing.T, s *testkit.Server, _ *proxy) { s.Restart() },
		"a failover to an empty replica":   func(t *testing.T, _ *testkit.Server, p *proxy) { p.turn(testkit.Start(t).Addr) },
		"another server, with other data":  func(t *testing.T, _ *testkit.Server, p *proxy) { p.turn(otherFleet(t)) },
		"a server that some replica found": func(t *testing.T, _ *testkit.Server, p *proxy) { p.turn(newFleet(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t)
			p := newProxy(t, s.Addr)
			members := joinAll(t, 2, p.url())
			members[1].do("Banned", ban())
			for _, m := range members {
				m.awaitKnown("Banned")
			}
			lose(t, s, p)
			for _, m := range members {
				m.awaitLogged("store_reset_done")
				m.awaitHold("Banned", breaker.Open)
			}
			if n := len(members[0].logged("hold_restored")) + len(members[1].logged("hold_restored")); n != 1 {
				t.Errorf("the hold was put back %d times", n)
			}
		})
	}
}

// TestReset_OlderCopyOfTheDataIsALossToo: a server that went back to its last snapshot, whose identity is the same. One
// that has all of it is none.
func TestReset_OlderCopyOfTheDataIsALossToo(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := testkit.Start(t)
	members := joinAll(t, 2, s.URL())
	client := s.Client(t)
	members[0].do("Lifted", ban())
	members[0].do("Old", ban())
	run(t, s, "SAVE")
	var saved float64
	later := func() error {
		now, err := client.ZScore(t.Context(), "circuit_breaker:replicas", members[0].ID).Result()
		if saved == 0 {
			saved = now
		}
		if now < saved+float64((olderCopy+redisdocs.BeatEvery).Milliseconds())+1000 {
			return errors.Join(errors.New("the snapshot is too new"), err)
		}
		return nil
	}
	members[0].eventually("some heartbeats", later)
	members = append(members, joinAll(t, 1, s.URL())...) // the snapshot does not know it
	members[1].do("Lifted", breaker.Force{Target: breaker.ResetClosed, Actor: "bob", Override: true})
	members[1].do("New", ban())
	for _, m := range members {
		m.awaitKnown("Old", "New")
	}
	s.Restart() // from the snapshot
	for _, m := range members {
		m.awaitLogged("store_reset_done")
		m.awaitHold("New", breaker.Open)
	}
	n := 0
	for _, m := range members {
		n += len(m.logged("hold_restored"))
	}
	if n != 1 || members[0].view("Lifted").Hold.Kind == "" {
		t.Errorf("%d holds were put back; what the copy has stands: %+v", n, members[0].view("Lifted").Hold)
	}
	run(t, s, "SAVE")
	s.Restart()
	for _, m := range members {
		m.eventually("Redis to be back", func() error {
			m.refuses("New")
			if m.Fallback.Degraded() {
				return errors.New("it is not")
			}
			return m.identify(t.Context())
		})
		if n := len(m.logged("store_reset")); n != 1 {
			t.Errorf("%d losses", n)
		}
	}
}

func run(t *testing.T, s *testkit.Server, args ...any) {
	t.Helper()
	if err := s.Client(t).Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// otherFleet is a server that another fleet uses, whose operator has lifted a ban of the same agent a minute ago.
func otherFleet(t *testing.T) string {
	t.Helper()
	s := testkit.Start(t)
	m := joinAll(t, 1, s.URL())[0]
	m.do("Banned", ban())
	m.do("Banned", breaker.Force{Target: breaker.ResetClosed, Actor: "bob", Override: true})
	lifted := m.view("Banned").Log[0]
	lifted.AtMs -= time.Minute.Milliseconds()
	run(t, s, "DEL", "circuit_breaker:Banned:log")
	run(t, s, "LPUSH", "circuit_breaker:Banned:log", lifted.String())
	return s.Addr
}

// newFleet is an empty server of which another replica, which knows nothing, has written the identity.
func newFleet(t *testing.T) string {
	t.Helper()
	s := testkit.Start(t)
	joinAll(t, 1, s.URL())
	return s.Addr
}

// TestReset_NothingToNotice: an empty Redis at the first start, a failover to a replica that has the data, a Cluster
// that gains a master.
func TestReset_NothingToNotice(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	p := newProxy(t, s.Addr)
	m := joinAll(t, 1, p.url())[0]
	m.do("Banned", ban())
	m.awaitKnown("Banned")
	copied := testkit.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(s.Port))
	client := copied.Client(t)
	m.eventually("the replica to have the data", func() error { return client.Get(t.Context(), "circuit_breaker:born").Err() })
	run(t, copied, "REPLICAOF", "NO", "ONE")
	p.turn(copied.Addr)
	s.Kill()
	m.eventually("two heartbeats at the new master", func() error {
		if m.identify(t.Context()) != nil || !m.refuses("Banned") || m.Fallback.Degraded() {
			return errors.New("not there")
		}
		return nil
	})
	m.holds.restart()
	m.awaitKnown("Banned")
	if n := len(m.logged("store_reset")); n != 0 || m.resets.noticed.Load() != 0 {
		t.Errorf("a loss was noticed: %s", m.out)
	}
	if text, pending := m.DataLoss(); text != "" || pending {
		t.Errorf("health: %q, %v", text, pending)
	}
	for is, want := range map[string]bool{
		"a,b,c": false, "a,b,c,d": false, "0,a,b,c": false, "a,b,d": true, "a,b": true, "d": true, "": true,
	} {
		if got := lost("a,b,c", is); got != want {
			t.Errorf("a,b,c became %q: lost %v", is, got)
		}
	}
}

// TestReset_OneMasterOfAClusterLosesItsData: what the others have stands.
func TestReset_OneMasterOfAClusterLosesItsData(t *testing.T) {
	t.Parallel()
	skipShort(t)
	set := testkit.StartCluster(t)
	members := joinAll(t, 2, set.URL())
	var agents []string
	for i := range 12 { // over all masters
		agent := "Banned" + strconv.Itoa(i)
		agents = append(agents, agent)
		members[0].do(agent, ban())
	}
	for _, m := range members {
		m.awaitKnown(agents...)
	}
	run(t, set.Nodes[1], "FLUSHALL")
	for _, m := range members {
		m.awaitLogged("store_reset_done")
	}
	for _, agent := range agents {
		members[1].awaitHold(agent, breaker.Open)
	}
	restored, stood := 0, 0
	for _, m := range members {
		restored += len(m.logged("hold_restored"))
		stood += len(m.logged("hold_stands"))
	}
	if restored == 0 || stood == 0 || restored+stood != len(agents) {
		t.Errorf("%d were put back, %d stood", restored, stood)
	}
}

func TestReset_Forget(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		members := joinAll(t, 2, s.url, "ON_STORE_RESET=forget")
		members[0].do("Banned", ban())
		for _, m := range members {
			m.awaitKnown("Banned")
		}
		if err := s.client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			m.awaitLogged("store_reset")
			m.awaitLogged("store_reset_done")
		}
		if v := members[0].view("Banned"); v.Hold.Kind != "" || len(v.Log) > 0 {
			t.Errorf("%+v", v.Hold)
		}
		if got := announced(t, s.client); len(got) != 1 {
			t.Errorf("the stream has %q", got)
		}
	})
}

// TestReset_OperatorWhoActsMeanwhileWins over what stood before the loss.
func TestReset_OperatorWhoActsMeanwhileWins(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		members := joinAll(t, 2, s.url)
		a, ctx := members[0], t.Context()
		hold := func(target breaker.Target, protected bool) func(agent string) {
			return func(agent string) {
				a.do(agent, breaker.Force{Target: target, Reason: "now", Actor: "bob", Protected: protected})
			}
		}
		edit := func(state string) func(agent string) {
			return func(agent string) {
				if err := s.client.Set(ctx, "circuit_breaker:"+agent+":state", state, 0).Err(); err != nil {
					t.Fatal(err)
				}
				_ = a.Manager.Do(ctx, agent, func(context.Context) error { return nil })
			}
		}
		acts := map[string]struct {
			act     func(agent string)
			becomes string
			hold    breaker.State
		}{
			"Reset":      {hold(breaker.ResetClosed, false), holdOverruled, ""},
			"HalfOpened": {hold(breaker.ResetHalfOpen, false), holdOverruled, ""},
			"Allowed":    {hold(breaker.HoldClosed, false), holdStands, breaker.Closed},
			"Banned":     {hold(breaker.HoldOpen, false), holdStands, breaker.Open},
			"Protected":  {hold(breaker.HoldClosed, true), holdStands, breaker.Closed},
			"Edited":     {edit("open"), holdOverruled, ""},
			"Configured": {func(agent string) { // says nothing about the ban
				if err := a.Docs.PutOverride(ctx, agent, "*", `{"failure_threshold":3}`, "bob"); err != nil {
					t.Fatal(err)
				}
			}, holdRestored, breaker.Open},
			"Called": {func(agent string) {
				for range 9 {
					_ = a.Manager.Do(ctx, agent, func(context.Context) error { return errors.New("down") })
				}
			}, holdRestored, breaker.Open},
		}
		for agent := range acts {
			a.do(agent, ban())
		}
		for _, m := range members {
			for agent := range acts {
				m.awaitKnown(agent)
			}
		}
		if err := s.client.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		for agent, c := range acts {
			c.act(agent)
		}
		for _, m := range members {
			m.awaitLogged("store_reset_done")
		}
		for agent, c := range acts {
			v := a.view(agent)
			if v.Hold.Kind != c.hold || (c.becomes == holdRestored) != (v.Hold.Actor == "alice") {
				t.Errorf("%s: hold %+v, want %q", agent, v.Hold, c.hold)
			}
			if n := len(linesOf(agent, "hold_"+c.becomes, members)); n != 1 {
				t.Errorf("%s: %d lines say %s", agent, n, c.becomes)
			}
		}
	})
}

func linesOf(agent, event string, members []*member) (lines []map[string]any) {
	for _, m := range members {
		for _, line := range m.logged(event) {
			if line["agent"] == agent {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// TestReset_WhoHasTheTurn: a replica that dies in the middle is replaced, and one that has finished is believed.
func TestReset_WhoHasTheTurn(t *testing.T) {
	t.Parallel()
	skipShort(t)
	const id = "feedfacefeedface"
	for holder, c := range map[string]struct {
		until    time.Duration
		restores int
	}{
		"a replica that died": {4 * time.Second, 1}, doneBy + "another": {time.Hour, 0},
	} {
		t.Run(holder, func(t *testing.T) {
			t.Parallel()
			onEachEngine(t, func(t *testing.T, s shop) {
				members := joinAll(t, 2, s.url)
				members[0].do("Banned", ban())
				for _, m := range members {
					m.awaitKnown("Banned")
				}
				_, err := s.client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
					pipe.FlushAll(t.Context())
					pipe.Set(t.Context(), "circuit_breaker:born", id, 0)
					pipe.Set(t.Context(), members[0].Store.Keys().Reset(id), holder, c.until)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, m := range members {
					m.awaitLogged("store_reset_done")
					n += len(m.logged("hold_restored"))
				}
				if n != c.restores || len(announced(t, s.client)) != c.restores {
					t.Errorf("%d holds were put back, %q announced", n, announced(t, s.client))
				}
			})
		})
	}
}

// TestReset_ReplicaThatWasCutOffDoesNotPutBackWhatOthersLifted, whether it has met that Redis was away or not.
func TestReset_ReplicaThatWasCutOffDoesNotPutBackWhatOthersLifted(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for name, calls := range map[string]bool{"degraded": true, "idle": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t)
			p := newProxy(t, s.Addr)
			cut, well := joinAll(t, 1, p.url())[0], joinAll(t, 1, s.URL())[0]
			well.do("Lifted", ban())
			cut.awaitKnown("Lifted")
			p.turn("")
			cut.eventually("this replica to miss Redis", func() error {
				if calls {
					_ = cut.Manager.Do(t.Context(), "Any", func(context.Context) error { return nil })
				}
				cut.holds.mu.Lock()
				defer cut.holds.mu.Unlock()
				if cut.holds.current || calls != cut.Fallback.Degraded() {
					return errors.New("it does not")
				}
				return nil
			})
			well.do("Lifted", breaker.Force{Target: breaker.ResetClosed, Actor: "bob", Override: true})
			well.do("Later", ban())
			well.awaitKnown("Later")
			run(t, s, "FLUSHALL")
			p.turn(s.Addr)
			for _, m := range []*member{cut, well} {
				m.awaitLogged("store_reset_done")
			}
			well.awaitHold("Later", breaker.Open)
			if v := well.view("Lifted"); v.Hold.Kind != "" {
				t.Errorf("the replica that was cut off put back %+v", v.Hold)
			}
		})
	}
}

// TestReset_HoldThatRedisRefusesIsGivenUp, and the others come back: an ACL denies the breakers of some agents.
func TestReset_HoldThatRedisRefusesIsGivenUp(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for _, denied := range [][]string{{"Denied"}, {"Alpha"}, {"Zebra"}, {"A", "B"}, {"A", "B", "C", "D", "E", "F", "G", "H", "I"}} {
		t.Run(strings.Join(denied, " "), func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t)
			narrow(t, s, "")
			members := joinAll(t, 2, urlOfUser(s))
			seen := []string{"Seen", "Seen-too", "SeenToo"}
			for _, agent := range append(denied, seen...) {
				members[0].do(agent, ban())
			}
			for _, m := range members {
				m.awaitKnown(append(denied, seen...)...)
			}
			narrow(t, s, "Seen")
			run(t, s, "FLUSHALL")
			for _, m := range members {
				m.awaitLogged("store_reset_done")
				if text, pending := m.DataLoss(); text == "" || pending {
					t.Errorf("health: %q, %v", text, pending)
				}
			}
			for _, agent := range seen {
				members[1].awaitHold(agent, breaker.Open)
			}
			for _, agent := range denied {
				lines := linesOf(agent, "hold_refused", members)
				if len(lines) != 1 || lines[0]["level"] != "ERROR" || !strings.Contains(fmt.Sprint(lines[0]["error"]), "NOPERM") {
					t.Errorf("%s: %v", agent, lines)
				}
			}
		})
	}
}

// TestReset_HoldThatIsLiftedAfterItCameBackStaysLifted though the data is lost again while another hold waits.
func TestReset_HoldThatIsLiftedAfterItCameBackStaysLifted(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for name, lift := range map[string]breaker.Force{
		"reset":     {Target: breaker.ResetClosed, Actor: "bob", Override: true},
		"half-open": {Target: breaker.ResetHalfOpen, Actor: "bob", Override: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEachEngine(t, func(t *testing.T, s shop) { liftedStaysLifted(t, s, lift) })
		})
	}
}

func liftedStaysLifted(t *testing.T, s shop, lift breaker.Force) {
	members := joinAll(t, 2, s.url)
	var free atomic.Bool
	for _, m := range members {
		m.resets.mu.Lock() // before the next loss
		m.resets.force = func(ctx context.Context, agent string, f breaker.Force) (breaker.State, error) {
			if agent == "Waits" && !free.Load() {
				return "", errors.New("not yet")
			}
			return m.Manager.Force(ctx, agent, f)
		}
		m.resets.mu.Unlock()
	}
	for _, agent := range []string{"Waits", "Lifted", "Stands"} {
		members[0].do(agent, ban())
	}
	for _, m := range members {
		m.awaitKnown("Waits", "Lifted", "Stands")
	}
	lose := func(losses int) {
		if err := s.client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			m.eventually("the loss to be noticed", func() error {
				if n := len(m.logged("store_reset")); n != losses {
					return fmt.Errorf("%d losses", n)
				}
				return nil
			})
		}
		members[0].awaitHold("Stands", breaker.Open)
	}
	lose(1)
	for _, m := range members {
		m.awaitHold("Lifted", breaker.Open)
		m.awaitKnown("Lifted", "Stands")
	}
	members[0].do("Lifted", lift)
	for _, m := range members {
		m.eventually("the hold to be known as lifted", func() error {
			m.holds.mu.Lock()
			defer m.holds.mu.Unlock()
			if k := m.holds.known["Lifted"]; k.hold != nil {
				return errors.New("it is not")
			}
			return nil
		})
	}
	lose(2)
	free.Store(true)
	members[1].awaitHold("Waits", breaker.Open)
	for _, m := range members {
		m.awaitLogged("store_reset_done")
	}
	if v := members[0].view("Lifted"); v.Hold.Kind != "" || len(linesOf("Lifted", "hold_restored", members)) != 1 {
		t.Errorf("it was put back: %+v", v.Hold)
	}
}

// TestReset_NoHeartbeatUntilTheFormerOneIsCompared: Redis comes back with an older copy of its data between the two
// questions of one round.
func TestReset_NoHeartbeatUntilTheFormerOneIsCompared(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, c := range map[string]struct {
		read, compared error // what fails
		rounds         int
		own, newest    int64 // what the copy has
		losses         int
	}{
		"no answer to who it is":                  {down, nil, 1, 10_000, 10_000, 1},
		"no answer to when it was":                {nil, down, 1, 10_000, 10_000, 1},
		"three rounds":                            {down, nil, 3, 10_000, 10_000, 1},
		"a copy from before this replica's start": {down, nil, 1, 0, 10_000, 1},
		"a copy that is six seconds old":          {down, nil, 2, 94_000, 99_000, 1},
		"all of the data":                         {down, nil, 2, 100_000, 100_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own, newest, losses, id := int64(0), int64(0), 0, "A"
			var read, compared error
			w := &bornWatch{
				log:        slog.New(slog.DiscardHandler),
				read:       func(context.Context) (string, error) { return id, read },
				renew:      func(context.Context, string) (string, error) { id = "B"; return id, nil },
				heartbeats: func(context.Context) (int64, int64, error) { return own, newest, compared },
				lost:       func(string, string, time.Time) { losses++ },
			}
			ms := int64(100_000)
			round := func(between func()) {
				_, _ = w.born(t.Context())
				between()
				w.beaten(func() (int64, error) {
					own, newest = ms, ms
					return ms, nil
				})
			}
			nothing := func() {}
			round(nothing)
			read, compared = c.read, c.compared
			for i := range c.rounds {
				round(func() {
					if i == c.rounds-1 {
						own, newest = c.own, c.newest
					}
				})
			}
			read, compared = nil, nil
			ms = 102_000
			round(nothing)
			round(nothing)
			if losses != c.losses || own != ms {
				t.Errorf("%d losses, want %d; the last heartbeat is %d", losses, c.losses, own)
			}
		})
	}
}
