package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// linked is the Store of one replica, whose way to Redis may be cut.
type linked struct {
	*redisstore.Store

	cut  atomic.Bool // nothing reaches Redis
	lost atomic.Bool // what is sent is carried out, and no answer comes back
}

func (l *linked) fails(verb machine.Verb, agent string) error {
	if l.cut.Load() {
		return &breaker.StoreError{Verb: verb, Agent: agent, Err: errors.New("no route to host")}
	}
	return nil
}

func (l *linked) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if err := l.fails(op.Verb, agent); err != nil {
		return machine.Result{}, err
	}
	op.ShiftMs = p.Params(time.Hour, 1).Shift(agent) // SetNow leaves it to the test
	r, err := l.Store.Apply(ctx, agent, p, op)
	if l.lost.Load() {
		return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Unknown: true, Err: io.EOF}
	}
	return r, err
}

func (l *linked) ping(ctx context.Context) error {
	if err := l.fails("ping", ""); err != nil {
		return err
	}
	return l.Ping(ctx)
}

func (l *linked) born(ctx context.Context) (string, error) {
	if err := l.fails("born", ""); err != nil {
		return "", err
	}
	return l.Born(ctx)
}

// member is one replica of a fleet in this process.
type member struct {
	id       string
	link     *linked
	fallback *breaker.Fallback
	manager  *breaker.Manager
	taken    int
}

// parted is a fleet of three replicas on one Redis, beside one that is never parted from its store.
type parted struct {
	client   redis.UniversalClient
	prefix   string
	policy   breaker.Policy
	replicas []*member
	gone     []*member       // that were killed
	never    *breaker.Memory // what a fleet that was never parted counts
	before   int64           // outcomes that were reported before the outage
}

func newParted(t *testing.T, client redis.UniversalClient, prefix string, consistency breaker.Consistency) *parted {
	f := &parted{client: client, prefix: prefix, never: newNever()}
	f.policy = breaker.Policy{
		FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off, Consistency: consistency,
	}
	for i := range 3 {
		f.replicas = append(f.replicas, f.join(t, fmt.Sprint("replica-", i)))
	}
	return f
}

func newNever() *breaker.Memory {
	return breaker.NewMemory(func() int64 { return time.Now().UnixMilli() }, 0)
}

func (f *parted) join(t *testing.T, id string) *member {
	store, err := redisstore.New(f.client, false, redisstore.Config{Prefix: f.prefix, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	store.SetNow(func() int64 { return time.Now().UnixMilli() })
	m := &member{id: id, link: &linked{Store: store}}
	m.fallback = breaker.NewFallback(breaker.FallbackOptions{Store: m.link, Ping: m.link.ping, Born: m.link.born})
	policy := func(context.Context, string) breaker.Policy { return f.policy }
	m.manager, err = breaker.NewManager(breaker.Options{Store: m.fallback, Policy: f.policy, PerAgent: policy, Reporter: id})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// agents are called in turn.
func (f *parted) agents() []string { return []string{"search", "payments", "mail"} }

// traffic calls agents on every replica for a time.
func (f *parted) traffic(t *testing.T, length time.Duration) {
	pause := max(length/100, 100*time.Millisecond)
	for i := range int(length / pause) {
		for j, m := range f.replicas {
			agent := f.agents()[(i+j)%3]
			kind := breaker.Success
			if (i+j)%5 == 0 {
				kind = breaker.Failure
			}
			p, err := m.manager.Acquire(t.Context(), agent)
			if err != nil {
				t.Fatal(err)
			}
			o := breaker.Outcome{Kind: kind, Slow: i%7 == 0}
			if _, err := p.Settle(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			m.taken++
			record := machine.Op{Verb: machine.VerbRecord, Summary: o.Summary(), Draw: machine.ZeroEpoch[1:]}
			if _, err := f.never.Apply(t.Context(), agent, f.policy, record); err != nil {
				t.Fatal(err)
			}
			m.wantSum(t)
		}
		<-time.After(pause)
	}
}

func (m *member) wantSum(t *testing.T) breaker.Outcomes {
	o := m.manager.Outcomes()
	var settled int64
	for _, n := range o.Settled {
		settled += n
	}
	if o.Taken != settled+o.Unsent.Outcomes || o.Taken != int64(m.taken) {
		t.Fatalf("%s: %d outcomes were reported; %+v", m.id, m.taken, o)
	}
	return o
}

// parting is one way in which the replicas lose Redis.
type parting struct {
	during func(t *testing.T, f *parted) // nil: nothing happens meanwhile
	lossy  machine.Reason                // why what waits is lost; "": nothing is
	killed bool                          // outcomes end with their replica
}

func partings() map[string]parting {
	all := func(f *parted, set func(m *member)) {
		for _, m := range f.replicas {
			set(m)
		}
	}
	return map[string]parting{
		"nothing else": {},
		"replies are lost on return": {during: func(_ *testing.T, f *parted) {
			all(f, func(m *member) { m.link.lost.Store(true); m.link.cut.Store(false) })
			<-time.After(3 * time.Second)
			all(f, func(m *member) { m.link.lost.Store(false) })
		}},
		"a second outage during the replay": {during: func(t *testing.T, f *parted) {
			for range 3 {
				all(f, func(m *member) { m.link.lost.Store(true); m.link.cut.Store(false) })
				<-time.After(60 * time.Millisecond)
				all(f, func(m *member) { m.link.cut.Store(true); m.link.lost.Store(false) })
				f.traffic(t, time.Second)
			}
		}},
		"a replica is killed": {killed: true, during: func(t *testing.T, f *parted) {
			f.gone = append(f.gone, f.replicas[1])
			f.replicas[1].link.cut.Store(true) // for ever
			f.replicas[1] = f.join(t, "replica-1")
		}},
		"the store loses its data": {lossy: breaker.LostStoreReset, during: func(t *testing.T, f *parted) {
			keys, err := f.client.Keys(t.Context(), f.prefix+":*").Result()
			if err != nil {
				t.Fatal(err)
			}
			f.client.Del(t.Context(), keys...)
			f.never = newNever()
		}},
		"the breakers are reset": {lossy: "epoch", during: func(t *testing.T, f *parted) {
			for _, agent := range f.agents() {
				op := machine.Op{
					Verb: machine.VerbForce, Draw: "123456789abcdef",
					Force: breaker.Force{Target: breaker.ResetClosed, Reason: "test", Actor: "test"},
				}
				if _, err := f.replicas[0].link.Store.Apply(t.Context(), agent, f.policy, op); err != nil {
					t.Fatal(err)
				}
			}
			f.never = newNever()
		}},
		"the policy changes": {during: func(_ *testing.T, f *parted) { f.policy.MinimumCalls = 77 }},
	}
}

// After an outage of any length the window is that of a fleet which was never parted, but for what is counted as lost.
func TestOutage_WindowIsThatOfAFleetNeverParted(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (addr string){
		"miniredis": func(t *testing.T) string { return miniredis.RunT(t).Addr() },
		"redis":     func(t *testing.T) string { return testkit.Start(t).Addr },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := start(t)
			n, now := 0, time.Now()
			for what, p := range partings() {
				if testing.Short() && name == "miniredis" && what != "nothing else" {
					continue
				}
				for _, outage := range []time.Duration{time.Second, 30 * time.Second, 300 * time.Second} {
					if testing.Short() && outage != 30*time.Second {
						continue
					}
					for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
						n++
						prefix := fmt.Sprint("parted-", n)
						t.Run(fmt.Sprint(what, " ", outage, " ", consistency), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								// A bubble begins in 2000, where keys of Redis expire at once.
								<-time.After(time.Until(now).Truncate(time.Millisecond))
								c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, MaxRetries: -1, DisableIdentity: true})
								defer c.Close()
								newParted(t, c, prefix, consistency).part(t, p, outage)
							})
						})
					}
				}
			}
		})
	}
}

func (f *parted) part(t *testing.T, p parting, outage time.Duration) {
	f.traffic(t, 20*time.Second)
	<-time.After(time.Second) // cached mode has sent all
	synctest.Wait()
	for _, m := range f.replicas {
		m.link.cut.Store(true)
		f.before += int64(m.taken)
	}
	f.traffic(t, outage)
	if p.during != nil {
		p.during(t, f)
	}
	for _, m := range f.replicas {
		m.link.cut.Store(false)
	}
	<-time.After(5 * time.Second)
	synctest.Wait()
	f.compare(t, p, outage)
	for _, m := range append(f.replicas, f.gone...) {
		m.fallback.Close()
		_ = m.manager.Close(t.Context())
	}
}

// compare compares the windows.
func (f *parted) compare(t *testing.T, p parting, outage time.Duration) {
	var counted, want, lost, unknown, taken int64
	for _, agent := range f.agents() {
		v, err := f.replicas[0].link.Inspect(t.Context(), agent, f.policy)
		if err != nil {
			t.Fatal(err)
		}
		never, err := f.never.Inspect(t.Context(), agent, f.policy)
		if err != nil {
			t.Fatal(err)
		}
		window := breaker.DefaultPolicy().WindowSize.Milliseconds()
		got, whole := v.Window(v.NowMs, window), never.Window(v.NowMs, window)
		if !p.killed && got != whole {
			t.Errorf("%s: the window holds %+v, and %+v without the outage", agent, got, whole)
		}
		counted += got.Successes + got.Failures
		want += whole.Successes + whole.Failures
	}
	for _, m := range f.replicas {
		o := m.wantSum(t)
		taken += o.Taken
		lost += o.Settled[machine.CodeLost]
		unknown += o.Settled[breaker.CodeUnknown]
		if o.Unsent.Outcomes > 0 || m.fallback.Degraded() {
			t.Errorf("%s: not in step after five seconds: %+v", m.id, o)
		}
		for why := range o.Lost {
			if why != p.lossy && why != breaker.LostExpired {
				t.Errorf("%s: lost: %v", m.id, o.Lost)
			}
		}
	}
	for _, m := range f.gone {
		lost += m.manager.Backlog().Outcomes
	}
	if unknown > 0 || counted > want || p.lossy != "" && lost != taken-f.before ||
		counted+lost < want && outage < 100*time.Second {
		t.Errorf("the windows hold %d calls, %d without the outage; %d lost, %d unknown", counted, want, lost, unknown)
	}
}
