package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// call asks for a call, and returns why it is refused; "": it is not.
func (m *member) call(agent string) breaker.Reason {
	m.t.Helper()
	err := m.Manager.Do(m.t.Context(), agent, func(context.Context) error { return nil })
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		return open.Reason
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return ""
}

// set replaces the fleet's gate, whatever it is; nil: lifts it.
func (m *member) set(c *redisdocs.GateChange) {
	m.t.Helper()
	was, err := m.Docs.Gate(m.t.Context())
	if err == nil {
		err = m.PutGate(m.t.Context(), &was, c, "ops")
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) awaitCall(agent string, want breaker.Reason) {
	m.t.Helper()
	m.eventually(fmt.Sprintf("calls to be %q", want), func() error {
		if got := m.call(agent); got != want {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

func stop() *redisdocs.GateChange { return &redisdocs.GateChange{Reason: "fire", Actor: "ops"} }

func TestGate_StopsEveryReplica(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		members := append(joinAll(t, 2, s.url), join(t, s.url, "CIRCUIT_BREAKER_CONSISTENCY=cached"))
		for _, m := range members {
			m.awaitCall("a", "")
		}
		members[0].set(stop())
		for _, m := range members {
			m.awaitCall("a", breaker.ReasonEmergencyStop)
			m.awaitCall("never-seen", breaker.ReasonEmergencyStop)
			m.awaitLogged("fleet_gate")
		}
		now, err := members[0].Docs.Gate(t.Context())
		if err != nil || !now.Stops() || now.Reason != "fire" || now.Actor != "ops" {
			t.Fatalf("%+v, %v", now, err)
		}
		members[1].eventually("every replica to acknowledge", func() error {
			heard, err := members[1].Docs.Replicas(t.Context())
			for _, h := range heard {
				if h.Gate != now.Version || h.State() != redisdocs.Alive {
					err = errors.Join(err, fmt.Errorf("%+v", h))
				}
			}
			if len(heard) != len(members) {
				err = errors.Join(err, fmt.Errorf("%d replicas", len(heard)))
			}
			return err
		})
		late := join(t, s.url)
		late.awaitCall("a", breaker.ReasonEmergencyStop)
		members[1].set(nil)
		for _, m := range append(members, late) {
			m.awaitCall("a", "")
		}
	})
}

func TestGate_HandIsObeyed(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		m := joinAll(t, 1, s.url)[0]
		key := m.Store.Keys().Fleet()
		for _, c := range []struct {
			fields []any
			want   breaker.Reason
		}{
			{[]any{"to", "0"}, breaker.ReasonEmergencyStop},
			{[]any{"to", "1"}, ""},
			{[]any{"from", "0", "to", "0.0", "until", "1"}, ""}, // long over
			{[]any{"to", "0", "length", "soon"}, breaker.ReasonEmergencyStop},
			{[]any{"to", "none"}, ""},
			{[]any{"to", "NaN"}, ""},
			{[]any{"to", "-1"}, ""},
			{[]any{"from", "0", "to", "0", "start", "-5", "actor", "x\ny"}, breaker.ReasonEmergencyStop},
			{[]any{"reason", "no share"}, ""},
		} {
			pipe := m.Conn.Client.TxPipeline()
			pipe.Unlink(t.Context(), key)
			pipe.HSet(t.Context(), key, c.fields...)
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.awaitCall("a", c.want)
			m.eventually("the hand's gate to be the one that is obeyed", func() error {
				now, err := m.Docs.Gate(t.Context())
				if err == nil && m.gate.version() != now.Version {
					err = errors.New("it is not")
				}
				return err
			})
		}
		if err := m.Conn.Client.Set(t.Context(), key, "planted", 0).Err(); err != nil {
			t.Fatal(err)
		}
		m.awaitCall("a", "")
		m.set(stop())
		m.awaitCall("a", breaker.ReasonEmergencyStop)
		if err := m.Conn.Client.Unlink(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		m.awaitCall("a", "")
	})
}

func TestGate_StandsWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		p := newProxy(t, s.client.Options().Addr)
		m := joinAll(t, 1, p.url())[0]
		m.set(stop())
		m.awaitCall("a", breaker.ReasonEmergencyStop)
		p.turn("")
		_, _, _ = m.Manager.Inspect(t.Context(), "a") // the calls, which are refused, do not notice
		m.awaitLogged("degraded")
		if got := m.call("a"); got != breaker.ReasonEmergencyStop {
			t.Errorf("while Redis is down: %q", got)
		}
		p.turn(s.client.Options().Addr)
		m.awaitLogged("recovered")
		if got := m.call("a"); got != breaker.ReasonEmergencyStop {
			t.Errorf("after that: %q", got)
		}
	})
}

func TestGate_EndsByItself(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		m := joinAll(t, 1, s.url)[0]
		c := stop()
		c.Until = 3 * time.Second
		m.set(c)
		m.awaitCall("a", breaker.ReasonEmergencyStop)
		m.awaitCall("a", "")
		m.eventually("the replica to drop it", func() error {
			if share := m.Manager.Share(); share != 1 {
				return fmt.Errorf("share %v", share)
			}
			return nil
		})
	})
}

func TestGate_IsPutBackAfterALossOfData(t *testing.T) {
	t.Parallel()
	for _, restores := range []bool{true, false} {
		t.Run(strconv.FormatBool(restores), func(t *testing.T) {
			t.Parallel()
			onEachEngine(t, func(t *testing.T, s shop) {
				env := "ON_STORE_RESET=forget"
				if restores {
					env = "ON_STORE_RESET=restore"
				}
				members := joinAll(t, 2, s.url, env)
				members[0].set(stop())
				for _, m := range members {
					m.awaitCall("a", breaker.ReasonEmergencyStop)
				}
				if err := members[0].Conn.Client.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				for _, m := range members {
					m.eventually("the loss to be seen to", func() error {
						if got := m.call("a"); restores && got != breaker.ReasonEmergencyStop {
							t.Errorf("admitted meanwhile: %q", got)
						}
						if len(m.logged("store_reset_done")) == 0 {
							return errors.New("not yet")
						}
						return nil
					})
				}
				now, err := members[0].Docs.Gate(t.Context())
				if err != nil || now.Stands() != restores || restores && (!now.Stops() || now.Actor != "ops") {
					t.Errorf("%+v, %v", now, err)
				}
				if !restores {
					members[1].awaitCall("a", "")
				}
			})
		})
	}
}

// A gate that somebody makes and lifts while a loss is still seen to is not put back.
func TestGate_LiftedAfterALossStaysLifted(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		m := joinAll(t, 1, s.url)[0]
		m.awaitCall("a", "")
		if err := m.Conn.Client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		m.awaitLogged("store_reset")
		m.set(stop())
		m.awaitCall("a", breaker.ReasonEmergencyStop)
		m.set(nil)
		m.awaitLogged("store_reset_done")
		m.awaitCall("a", "")
		if now, err := m.Docs.Gate(t.Context()); err != nil || now.Version != "" {
			t.Errorf("%+v, %v", now, err)
		}
	})
}

func TestReplicas_SayWhatTheyAre(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		a := join(t, s.url, "REPLICA_ID=a", "REPLICA_LABELS=canary=true,zone=a")
		a.Manager.Track("payments", breaker.View{})
		b := join(t, s.url, "REPLICA_ID=b", "CIRCUIT_BREAKER_ENABLED=false", "CIRCUIT_BREAKER_CONSISTENCY=cached")
		twin := join(t, s.url, "REPLICA_ID=twin")
		byID := map[string]redisdocs.Heard{}
		a.eventually("three replicas", func() error {
			heard, err := a.Docs.Replicas(t.Context())
			for _, h := range heard {
				byID[h.ID] = h
			}
			if len(heard) != 3 {
				return errors.Join(err, fmt.Errorf("%+v", heard))
			}
			return err
		})
		if x, y := byID["a"], byID["b"]; !x.Enabled || y.Enabled || x.Consistency != "strict" || y.Consistency != "cached" ||
			x.Policy == y.Policy || x.Policy != byID["twin"].Policy || x.Program == "" || x.Host == "" || x.StartedMs == 0 {
			t.Errorf("%+v, %+v", x, y)
		}
		a.eventually("what it uses", func() error {
			heard, err := b.Docs.Replicas(t.Context())
			x := heard[0]
			if err != nil || x.ID != "a" || x.CPU < 0 || x.CPU > 1 || x.CPUs < 1 || x.MemoryBytes < 1<<20 || x.Goroutines < 5 || x.Agents != 1 ||
				x.Born == "" || x.Born != heard[1].Born || !maps.Equal(x.Labels, map[string]string{"canary": "true", "zone": "a"}) || x.BeatMs == 0 {
				return fmt.Errorf("%+v %w", heard, err)
			}
			return nil
		})
		if self := a.Self(); self.ID != "a" || self.StartedMs != byID["a"].StartedMs {
			t.Errorf("%+v", self)
		}
		if err := twin.Stop(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		heard, err := b.Docs.Replicas(t.Context())
		if err != nil || len(heard) != 2 {
			t.Errorf("after an end in order: %+v, %v", heard, err)
		}
	})
}

// TestGate_FleetIsToldOnceThatItsTimeIsOver, by nobody, and not that one was lifted.
func TestGate_FleetIsToldOnceThatItsTimeIsOver(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		members := joinAll(t, 3, s.url)
		short := stop()
		short.Until = 300 * time.Millisecond
		members[0].set(short)
		over := func() []string {
			return members[0].announced(redisstore.EventGate, func(e breaker.Event) bool { return e.Actor == "-" })
		}
		for _, m := range members {
			m.eventually("the gate's end to be known here", func() error {
				if last, _ := m.Gate(); last.Version == "" || m.Manager.Share() < 1 || len(over()) == 0 {
					return errors.New("it is not")
				}
				return nil
			})
		}
		for _, m := range members {
			(&gate{replica: m.Replica, wake: make(chan struct{}, 1)}).follow(t.Context()) // as of one that starts
		}
		if got := over(); len(got) != 1 || got[0] != "stop -> none: its time is over" {
			t.Errorf("%q", got)
		}
		members[0].set(stop())
		members[0].set(nil)
		time.Sleep(3 * gatePoll) // each has looked again
		if got := over(); len(got) != 1 {
			t.Errorf("one was lifted: %q", got)
		}
	})
}

// TestHeartbeat_FleetIsToldOnceOfEachReplicaThatIsSilent, and again if it came back and is silent again.
func TestHeartbeat_FleetIsToldOnceOfEachReplicaThatIsSilent(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, s shop) {
		members, ctx := joinAll(t, 3, s.url), t.Context()
		now, err := members[0].Docs.ClockMs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		beat := func(id string, ago time.Duration) {
			z := redis.Z{Score: float64(now - ago.Milliseconds()), Member: id}
			if err := members[0].Conn.Client.ZAdd(ctx, members[0].Store.Keys().Replicas(), z).Err(); err != nil {
				t.Fatal(err)
			}
		}
		tell := func(want ...string) {
			t.Helper()
			told := map[string]int64{}
			for range 2 {
				for _, m := range members {
					told = m.tellGone(ctx, now, told)
					_ = m.tellGone(ctx, now, map[string]int64{})
				}
			}
			got := members[0].announced(redisstore.EventReplicaGone, func(e breaker.Event) bool { return e.Actor == "-" })
			for i := range got {
				got[i], _, _ = strings.Cut(got[i], " ")
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		beat("late", redisdocs.BeatAlive-time.Second)
		beat("ancient", 2*time.Hour)
		beat("not a word", time.Minute)
		tell()
		beat("gone", redisdocs.BeatAlive+time.Second)
		beat("gone2", time.Minute)
		tell("gone", "gone2")
		beat("gone2", 30*time.Second)
		tell("gone", "gone2", "gone2")
	})
}

// announced are the texts of events in the stream.
func (m *member) announced(kind string, of func(e breaker.Event) bool) (texts []string) {
	m.t.Helper()
	read, err := m.Docs.Entries(m.t.Context(), events.All, events.ID{}, events.Last(), 1000)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range read {
		if e.Event.Kind == kind && of(e.Event) {
			texts = append(texts, e.Event.Text)
		}
	}
	return texts
}
