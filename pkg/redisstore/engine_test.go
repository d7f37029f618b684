package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// engine drives a Store for storetest; the time is the test's.
type engine struct {
	client redis.UniversalClient
	store  *redisstore.Store
	now    int64
	ttls   bool               // miniredis has no PEXPIRETIME
	beside *neighbour         // nil: each operation is sent by itself
	read   map[string]string  // stream -> the last entry that was read
	listed map[string]float64 // agent -> its score among the breakers that are not closed
}

func newEngine(t testing.TB, client redis.UniversalClient, ttls bool) *engine {
	t.Helper()
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 30 * time.Second, History: 60})
	if err != nil {
		t.Fatal(err)
	}
	store.SetReplicas(machine.MaxReporters)
	e := &engine{client: client, store: store, ttls: ttls, read: map[string]string{}, listed: map[string]float64{}}
	store.SetNow(func() int64 { return e.now })
	return e
}

func miniEngine(t testing.TB) *engine {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	c := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return newEngine(t, c, false)
}

func realEngine(t testing.TB) *engine {
	t.Helper()
	return newEngine(t, testkit.Start(t).Client(t), true)
}

func (e *engine) Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	e.now = nowMs
	if e.beside != nil {
		if r, ok, err := e.applyBeside(nowMs, agent, p, op); ok || err != nil {
			return r, errors.Join(err, e.checkFleet(agent, r))
		}
	}
	r, err := e.store.Apply(context.Background(), agent, p, op)
	if err == nil {
		err = e.checkFleet(agent, r)
	}
	return r, err
}

// checkFleet says whether the fleet's streams end with the events of r, and whether its index has the agent if it must.
func (e *engine) checkFleet(agent string, r machine.Result) error {
	if len(r.Events) == 0 {
		return nil
	}
	ctx, keys := context.Background(), e.store.Keys()
	var all, manual []string
	for _, event := range r.Events {
		all = append(all, event.String())
		if event.Manual() {
			manual = append(manual, event.String())
		}
	}
	for stream, want := range map[string][]string{keys.Stream(): all, keys.Audit(): manual} {
		if err := e.grownBy(ctx, stream, agent, want); err != nil {
			return err
		}
	}
	score, err := e.client.ZScore(ctx, keys.NotClosed(), agent).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	transition := slices.ContainsFunc(r.Events, func(ev machine.Event) bool {
		return ev.Kind != machine.EventRepaired && ev.Kind != machine.EventEditUndone
	})
	listed, due := err == nil, r.State != machine.Closed || r.Hold != ""
	was, wasListed := e.listed[agent]
	if transition {
		was, wasListed = float64(r.NowMs), due
	}
	delete(e.listed, agent)
	if listed {
		e.listed[agent] = score
	}
	if listed != wasListed || listed && score != was {
		return fmt.Errorf("%s lists %s: %v (%.0f), at %d its state is %s, hold %q", keys.NotClosed(), agent, listed, score, r.NowMs, r.State, r.Hold)
	}
	return nil
}

// grownBy says whether a stream has grown by just these events of the agent since it was last looked at.
func (e *engine) grownBy(ctx context.Context, stream, agent string, want []string) error {
	from := "-"
	if last := e.read[stream]; last != "" {
		from = "(" + last
	}
	entries, err := e.client.XRange(ctx, stream, from, "+").Result()
	if err != nil {
		return err
	}
	var got []string
	for _, entry := range entries {
		e.read[stream] = entry.ID
		if entry.Values["agent"] != agent {
			return fmt.Errorf("%s has %v of another agent than %s", stream, entry.Values, agent)
		}
		got = append(got, fmt.Sprint(entry.Values["event"]))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s has grown by %q, not %q", stream, got, want)
	}
	return nil
}

func (e *engine) Dump(nowMs int64, agent string) (machine.Raw, error) {
	e.now = nowMs
	return e.store.Raw(context.Background(), agent)
}

func (e *engine) KeepHistory(minutes int) {
	e.store.SetHistory(minutes)
	if e.beside != nil {
		e.beside.model.KeepHistory(minutes)
	}
}

func (e *engine) ExpiryMs(agent string) ([]int64, error) {
	if !e.ttls {
		return nil, nil
	}
	ctx := context.Background()
	pipe := e.client.Pipeline()
	var cmds []*redis.DurationCmd
	for _, k := range e.store.Keys().Machine(agent) {
		cmds = append(cmds, pipe.PExpireTime(ctx, k))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var out []int64
	for _, c := range cmds {
		switch d := c.Val(); {
		case d == -1:
			out = append(out, -1)
		case d >= 0:
			out = append(out, d.Milliseconds())
		}
	}
	return out, nil
}

func (e *engine) Edit(agent string, ed storetest.Edit) error {
	ctx := context.Background()
	keys := e.store.Keys().Machine(agent)
	key := keys[ed.Key]
	var err error
	switch ed.Do {
	case storetest.Del:
		err = e.client.Del(ctx, key).Err()
	case storetest.DelAll:
		err = e.client.Del(ctx, keys...).Err()
	case storetest.Set:
		err = e.client.Set(ctx, key, ed.Value, 0).Err()
	case storetest.HSet:
		err = e.client.HSet(ctx, key, ed.Field, ed.Value).Err()
	case storetest.HDel:
		err = e.client.HDel(ctx, key, ed.Field).Err()
	case storetest.Flood:
		var fields []any
		for i := range ed.N {
			fields = append(fields, fmt.Sprintf("%s%d", ed.Field, i), ed.Value)
		}
		err = e.client.HSet(ctx, key, fields...).Err()
	case storetest.Plant:
		if err = e.client.Del(ctx, key).Err(); err == nil {
			err = e.client.SAdd(ctx, key, "planted").Err()
		}
	}
	var reply redis.Error
	if errors.As(err, &reply) && strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return nil // nothing happens, as in the model
	}
	return err
}

func onMiniredis(t testing.TB) storetest.Engine { return miniEngine(t) }
func onRedis(t testing.TB) storetest.Engine     { return realEngine(t) }

// count is how many histories a test plays: a fiftieth with -short.
func count(all int) int { return redisstore.Rounds(all, all/50) }

func TestHistories_OnMiniredis(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, onMiniredis, 1, count(500))
}

func TestHistories_OnRedis(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, onRedis, 2, count(10_000))
}

func TestTranscripts_OnMiniredis(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("miniredis interprets Lua slowly: with -short it plays histories only")
	}
	storetest.Transcripts(t, onMiniredis)
}

func TestTranscripts_OnRedis(t *testing.T) {
	t.Parallel()
	storetest.Transcripts(t, onRedis)
}

// FuzzHistory lets the fuzzer choose the operations: go test -fuzz FuzzHistory ./pkg/redisstore. What it found stays in
// testdata.
func FuzzHistory(f *testing.F) {
	engine := realEngine(f)
	n := 0
	for i := range 50 {
		f.Add(storetest.Choices(3, i))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n++
		agent := fmt.Sprintf("fuzz%d", n)
		if err := storetest.Replay(engine, storetest.NewModel(), agent, data, 200); err != nil {
			t.Fatal(err)
		}
	})
}
