package replica

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/latency"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	// latencyEvery is how often a replica publishes how long calls took.
	latencyEvery = 10 * time.Second
	// latencyFresh is for how long those who ask share what was read of other replicas.
	latencyFresh = time.Second
)

// durations keeps how long calls took: of this replica, published for the others.
type durations struct {
	breaker.NopObserver

	r     *Replica
	table *latency.Table

	reading chan struct{} // holds a value while one asks Redis
	// What follows belongs to who asks.
	read   map[string]latency.Figures // of the other replicas; nil: not read yet
	readAt time.Time
}

var (
	_ breaker.DurationObserver = (*durations)(nil)
	_ breaker.QuietObserver    = (*durations)(nil)
)

func newDurations(r *Replica) *durations {
	return &durations{
		r: r, table: latency.New(r.o.MaxAgents, r.Important, time.Now()), reading: make(chan struct{}, 1),
	}
}

// Quiet implements [breaker.QuietObserver].
func (*durations) Quiet() bool { return true }

// Took implements [breaker.DurationObserver].
func (d *durations) Took(agent string, took time.Duration, calls int) {
	if !d.r.o.TimesCalls {
		d.table.Add(agent, took, calls)
	}
}

// Forget is called for an agent that was deleted.
func (d *durations) Forget(agent string) { d.table.Forget(agent) }

// run publishes until ctx ends.
func (d *durations) run(ctx context.Context) {
	tick := time.NewTicker(latencyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.table.Turn(now)
			d.publish(ctx)
		}
	}
}

// publish replaces what this replica has published. Without calls there is nothing to publish, and what was expires.
func (d *durations) publish(ctx context.Context) {
	all := d.table.Read()
	if len(all) == 0 || d.r.Fallback.Degraded() {
		return
	}
	text, err := latency.Text(all)
	if err == nil {
		err = d.r.Docs.PutLatency(ctx, d.r.ID, text)
	}
	if err != nil {
		d.r.log.Debug("latency not published", "error", err) // the store reports its own health
	}
}

// others reads what the other replicas have published, at most once a second.
func (d *durations) others(ctx context.Context) (map[string]latency.Figures, error) {
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d.read != nil && time.Since(d.readAt) < latencyFresh {
		return d.read, nil
	}
	texts, err := d.r.Docs.Latency(ctx, d.r.ID)
	if err != nil {
		return nil, err
	}
	read := map[string]latency.Figures{}
	for _, text := range texts {
		figures, err := latency.Parse(text)
		if err != nil {
			d.r.log.Debug("latency of a replica not read", "error", err)
			continue
		}
		joinFigures(read, figures)
	}
	d.read, d.readAt = read, time.Now()
	return read, nil
}

func joinFigures(all, others map[string]latency.Figures) {
	for agent, f := range others {
		sum := all[agent]
		sum.Join(&f)
		all[agent] = sum
	}
}

// Latency is how long calls took within about ten minutes, by agent, on all replicas: of this one as it is now, of the
// others as they have published it. alone: those could not be read.
func (r *Replica) Latency(ctx context.Context) (all map[string]latency.Figures, alone bool) {
	all = r.durations.table.Read()
	if r.Fallback.Degraded() {
		return all, true
	}
	others, err := r.durations.others(ctx)
	if err != nil {
		return all, true
	}
	joinFigures(all, others)
	return all, false
}

// NoteCall is for a program with Options.TimesCalls: a call of an agent took so long, and so long until the first byte
// of its answer.
func (r *Replica) NoteCall(agent string, took, firstByte time.Duration) {
	if took > 0 && breaker.ValidName(agent) {
		r.durations.table.AddFirstByte(agent, took, firstByte)
	}
}
