package replica

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// gatePoll is how often the gate is read though nothing was pushed: within a second it counts everywhere.
const gatePoll = 500 * time.Millisecond

// gate makes this replica obey the fleet's gate [B24]. While Redis is away, the last one that was read stands.
type gate struct {
	replica *Replica
	wake    chan struct{}
	read    atomic.Bool // Redis has told whether there is one
	last    atomic.Pointer[redisdocs.Gate]
	seen    atomic.Pointer[time.Time] // when last was in Redis, as far as this replica has looked; nil: never
	over    string                    // the version whose end by itself the fleet has been told of
}

func newGate(r *Replica) *gate { return &gate{replica: r, wake: make(chan struct{}, 1)} }

// version is that of the gate that this replica obeys; "": none.
func (g *gate) version() string {
	if last := g.last.Load(); last != nil {
		return last.Version
	}
	return ""
}

// run follows the gate until ctx ends.
func (g *gate) run(ctx context.Context) {
	t := time.NewTicker(gatePoll)
	defer t.Stop()
	for {
		if !g.replica.Fallback.Degraded() {
			g.follow(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-g.wake:
		}
	}
}

// follow reads the gate, and obeys it.
func (g *gate) follow(ctx context.Context) {
	r := g.replica
	begin := time.Now()
	now, err := r.Docs.Gate(ctx)
	if err != nil {
		return // the store reports its own health; the next poll tries again
	}
	if now.Version != "" {
		g.seen.Store(&begin)
	}
	last := g.last.Load()
	if now.Version == "" && last != nil && last.Version != "" && g.lost(ctx) {
		return // it is put back
	}
	g.read.Store(true)
	g.tellOver(ctx, &now)
	if last != nil && last.Version == now.Version {
		if !now.Stands() {
			r.Manager.SetGate(nil) // its end has come
		}
		return
	}
	g.last.Store(&now)
	if now.Stands() {
		r.Manager.SetGate(&now.Gate)
	} else {
		r.Manager.SetGate(nil)
	}
	if now.Version != "" || last != nil && last.Version != "" {
		g.log(now)
	}
	r.tell(ctx)
}

// gateOver is for how long after its end the fleet may be told that the gate ended by itself: replicas that start later
// say nothing.
const gateOver = 10 * time.Minute

// tellOver tells the fleet once that the gate has ended by itself.
func (g *gate) tellOver(ctx context.Context, now *redisdocs.Gate) {
	ended := now.EndMs()
	since := time.Duration(now.NowMs-ended) * time.Millisecond
	if now.Version == "" || now.Stands() || g.over == now.Version || since >= gateOver {
		return
	}
	r := g.replica
	say := func() (said bool, err error) {
		text := now.Former() + " -> none: its time is over"
		if err := r.Store.Announce(ctx, redisstore.EventGate, "-", text, false); err != nil {
			return false, err
		}
		r.log.Warn("Fleet gate: its time is over", "event", "circuit_breaker.fleet_gate_over", "version", now.Version)
		return true, nil
	}
	done, err := newReminders(r).once(ctx, "gate "+now.Version, ended, gateOver+reminderTurn, say)
	if done && err == nil {
		g.over = now.Version
	}
}

// lost reports whether the gate is gone because Redis has lost its data, and is to be put back.
func (g *gate) lost(ctx context.Context) bool {
	r := g.replica
	return r.identify(ctx) != nil || r.resets.restore && g.lostSince(r.resets.pendingNow())
}

// lostSince reports whether a loss of data took the gate. One that was there since then was lifted by somebody.
func (g *gate) lostSince(p *storeReset) bool {
	seen := g.seen.Load()
	return p != nil && seen != nil && seen.Before(p.at)
}

func (g *gate) log(now redisdocs.Gate) {
	log := g.replica.log.With("event", "circuit_breaker.fleet_gate", "version", now.Version)
	switch {
	case now.Problem != "":
		log.Error("Fleet gate: a field was not understood", "problem", now.Problem, "from", now.From, "to", now.To)
	case !now.Stands():
		log.Warn("Fleet gate lifted: every call is admitted as its breaker says")
	default:
		log.Warn("Fleet gate: a share of all calls is admitted", "from", now.From, "to", now.To,
			"length_seconds", float64(now.LengthMs)/1000, "reason", now.Reason, "actor", now.Actor)
	}
}

// Gate is the fleet's gate as this replica obeys it. read is false until Redis has told it once.
func (r *Replica) Gate() (g redisdocs.Gate, read bool) {
	if last := r.gate.last.Load(); last != nil {
		g = *last
	}
	return g, r.gate.read.Load()
}

// PutGate replaces the gate by c, or removes it if c is nil, if it is still was, and tells all replicas. The error is
// [redisstore.ErrConflict] if it is not.
func (r *Replica) PutGate(
	ctx context.Context, was *redisdocs.Gate, c *redisdocs.GateChange, actor string,
) error {
	if err := r.Docs.PutGate(ctx, was, c); err != nil {
		return err
	}
	text := was.Text() + " -> " + c.Text()
	r.log.Warn("Fleet gate changed", "event", "circuit_breaker.gate", "change", text, "actor", actor,
		"address", breaker.AddressOf(ctx))
	if err := r.Store.Announce(ctx, redisstore.EventGate, actor, text, true); err != nil { // it counts all the same
		r.log.Warn("the change of the fleet's gate is not in the audit", "actor", actor, "text", text, "error", err)
	}
	signal(r.gate.wake)
	return nil
}

// putBack puts the gate back into a Redis that has lost it, unless somebody has made another one.
func (g *gate) putBack(ctx context.Context) error {
	last := g.last.Load()
	if last == nil || last.Version == "" || !g.lostSince(g.replica.resets.pendingNow()) {
		return nil
	}
	now, err := g.replica.Docs.Gate(ctx)
	if err != nil || now.Version != "" {
		return err
	}
	share := g.replica.Manager.Share()
	if share >= 1 {
		return nil
	}
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	change := redisdocs.GateChange{
		From: share, To: last.To, Reason: last.Reason + restored, Actor: last.Actor,
		Length: ms(max(last.StartMs+last.LengthMs-now.NowMs, 0)),
	}
	if last.UntilMs > 0 {
		change.Until = max(ms(last.UntilMs-now.NowMs), time.Millisecond)
	}
	err = g.replica.Docs.PutGate(ctx, &now, &change)
	if errors.Is(err, redisstore.ErrConflict) {
		return nil // another one stands
	}
	if err == nil {
		g.replica.log.Warn("Fleet gate put back after Redis lost its data", "event", "circuit_breaker.gate_restored",
			"from", change.From, "to", change.To, "reason", last.Reason, "actor", last.Actor)
		signal(g.wake)
	}
	return err
}
