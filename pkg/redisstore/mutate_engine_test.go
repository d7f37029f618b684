//go:build mutate

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// mutantEngine also checks what is published, how long an Idempotency-Key is kept, how long the log is, and which clock
// production reads.
type mutantEngine struct {
	*engine
	clock   *redisstore.Store // the same scripts, on the server's clock
	scripts map[string]*redis.Script
	events  *redis.PubSub
}

func newMutantEngine(client *redis.Client) (*mutantEngine, error) {
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: patience, History: 60})
	if err != nil {
		return nil, err
	}
	clock, err := redisstore.New(client, false, redisstore.Config{Timeout: patience, History: 60})
	if err != nil {
		return nil, err
	}
	store.SetReplicas(machine.MaxReporters)
	e := &mutantEngine{
		engine: &engine{client: client, store: store, ttls: true, read: map[string]string{}, listed: map[string]float64{}, beside: &neighbour{model: storetest.NewModel()}},
		clock:  clock, scripts: map[string]*redis.Script{},
	}
	store.SetNow(func() int64 { return e.now })
	e.events = client.Subscribe(context.Background(), store.Keys().Events())
	_, err = e.events.ReceiveTimeout(context.Background(), patience) // the confirmation of the subscription
	return e, err
}

func (e *mutantEngine) setScript(verb, text string) {
	e.store.SetScript(verb, text)
	e.clock.SetScript(verb, text)
	e.scripts[verb] = redis.NewScript(text)
}

// transcripts is storetest.Transcripts, but the first difference ends it, and it begins with the transcript that
// noticed the last fault: the next fault is often in the same line.
func (e *mutantEngine) transcripts(order *[]storetest.Part) error {
	for i, p := range *order {
		if err := p.Play(e, "t-"); err != nil {
			*order = slices.Insert(slices.Delete(slices.Clone(*order), i, i+1), 0, p)
			return err
		}
	}
	return errors.Join(e.silent(), e.readsClock("t-clock"))
}

// histories is storetest.Histories, but the first difference ends it.
func (e *mutantEngine) histories(n int) error {
	model := storetest.NewModel()
	for i := range n {
		data := make([]byte, mutationSteps*64)
		r := rand.New(rand.NewPCG(mutationSeed, uint64(i)))
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		agent := fmt.Sprintf("h%d", i)
		if err := storetest.Replay(e, model, agent, data, mutationSteps); err != nil {
			return err
		}
		if err := e.silent(); err != nil {
			return err
		}
		_ = model.Edit(agent, storetest.Edit{Do: storetest.DelAll})
		if err := e.Edit(agent, storetest.Edit{Do: storetest.DelAll}); err != nil {
			return err
		}
	}
	return nil
}

func (e *mutantEngine) Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	r, err := e.engine.Apply(nowMs, agent, p, op)
	if err != nil {
		return r, err
	}
	for _, event := range r.Events {
		if err := e.hears(agent + " " + event.String()); err != nil {
			return r, err
		}
	}
	if op.Verb == machine.VerbRecord && op.ReportID != "" {
		left, err := e.client.PTTL(context.Background(), e.store.Keys().Report(agent, op.ReportID)).Result()
		if err != nil || left <= 0 || left > 10*time.Minute {
			return r, fmt.Errorf("an Idempotency-Key is kept for %v (%w)", left, err)
		}
	}
	if op.Verb == machine.VerbForce && op.Force.ID != "" && (r.Code == machine.CodeOK || r.Code == machine.CodeDuplicate) {
		left, err := e.client.PTTL(context.Background(), e.store.Keys().Action(agent, op.Force.ID)).Result()
		if err != nil || left <= 24*time.Hour-time.Second || left > 24*time.Hour {
			return r, fmt.Errorf("an action is kept for %v (%w)", left, err)
		}
	}
	return r, nil
}

// Dump also checks that the log has no more than the 64 lines that a Raw shows.
func (e *mutantEngine) Dump(nowMs int64, agent string) (machine.Raw, error) {
	raw, err := e.engine.Dump(nowMs, agent)
	if err != nil {
		return raw, err
	}
	n, err := e.client.LLen(context.Background(), e.store.Keys().Log(agent)).Result()
	if err == nil && n > int64(len(raw.Log)) {
		return raw, fmt.Errorf("the log has %d lines, of which %d are shown", n, len(raw.Log))
	}
	return raw, nil // an error says that the log is planted
}

// clockReadings is how often the clock is read. Late in a second, a wrong factor shows more often than not.
const clockReadings = 24

// readsClock says whether scripts read the server's clock if ARGV has no time, and else go by ARGV.
func (e *mutantEngine) readsClock(agent string) error {
	if v, err := e.store.Inspect(context.Background(), agent, breaker.DefaultPolicy()); err != nil || v.NowMs != e.now {
		return fmt.Errorf("inspect at %d says %d (%w)", e.now, v.NowMs, err)
	}
	if err := e.lateInSecond(); err != nil {
		return err
	}
	for i := range clockReadings {
		if err := e.readsClockOnce(breaker.Outcome{Kind: []breaker.OutcomeKind{breaker.Ignored, breaker.Success}[i%2]}); err != nil {
			return err
		}
	}
	return e.calmReadsClock()
}

// calmReadsClock says whether the calm way of record, which repairs nothing, is taken on the server's clock. A bucket
// that ends meanwhile makes the general way begin the next one.
func (e *mutantEngine) calmReadsClock() error {
	ctx, control := context.Background(), e.store.Keys().Machine("clock")[3]
	op := machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Summary: machine.Summary{Successes: 1}}
	for range 3 {
		if err := e.client.HSet(ctx, control, "ev_run", "300").Err(); err != nil {
			return err
		}
		if _, err := e.clock.Apply(ctx, "clock", breaker.DefaultPolicy(), op); err != nil {
			return err
		}
		if text, err := e.client.HGet(ctx, control, "ev_run").Result(); err == nil && text == "300" {
			return nil
		}
	}
	return errors.New("on the server's clock, record does not take its calm way")
}

// lateInSecond waits until the server's clock has little left of its second, so that microseconds divided by 999 or
// 1001 show.
func (e *mutantEngine) lateInSecond() error {
	now, err := e.client.Time(context.Background()).Result()
	if wait := 700*time.Millisecond - time.Duration(now.Nanosecond()); err == nil && wait > 0 {
		<-time.After(wait)
	}
	return err
}

func (e *mutantEngine) readsClockOnce(o breaker.Outcome) error {
	ctx := context.Background()
	before, err := e.client.Time(ctx).Result()
	if err != nil {
		return err
	}
	op := machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Summary: o.Summary()} // a success takes the calm way
	r, err := e.clock.Apply(ctx, "clock", breaker.DefaultPolicy(), op)
	if err != nil {
		return err
	}
	v, err := e.clock.Inspect(ctx, "clock", breaker.DefaultPolicy())
	if err != nil {
		return err
	}
	after, err := e.client.Time(ctx).Result()
	if err != nil {
		return err
	}
	for _, ms := range []int64{r.NowMs, v.NowMs} {
		if ms < before.UnixMilli() || ms > after.UnixMilli() {
			return fmt.Errorf("at %d to %d a script reads %d", before.UnixMilli(), after.UnixMilli(), ms)
		}
	}
	return nil
}

// hears says whether want is the next message.
func (e *mutantEngine) hears(want string) error {
	got, err := e.heard()
	if err != nil {
		return fmt.Errorf("not published: %s: %w", want, err)
	}
	if got != want {
		return fmt.Errorf("published %q, not %q", got, want)
	}
	return nil
}

// heard is the next message.
func (e *mutantEngine) heard() (string, error) {
	m, err := e.events.ReceiveTimeout(context.Background(), patience)
	if err != nil {
		return "", err
	}
	got, ok := m.(*redis.Message)
	if !ok {
		return "", fmt.Errorf("published %v", m)
	}
	return got.Payload, nil
}

// silent says whether nothing was published but what hears has seen.
func (e *mutantEngine) silent() error {
	const mark = "end of history"
	if err := e.client.Publish(context.Background(), e.store.Keys().Events(), mark).Err(); err != nil {
		return err
	}
	return e.hears(mark)
}
