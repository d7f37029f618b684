package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	// restoreAfter is when holds are put back, after a loss was noticed. By then every replica has noticed it, and an
	// operator who was at work has acted.
	restoreAfter = 2 * time.Second
	// restoreLate is when a replica does it that was cut off from Redis itself. Others, which know better, have begun by
	// then.
	restoreLate = 3 * time.Second
	// unseen is how long the former data may not have been seen by a replica that was never cut off.
	unseen = 3 * redisdocs.BeatEvery
	// restoreTurn is for how long the replica that does it is waited for.
	restoreTurn = 30 * time.Second
	// resetShown is for how long the health is degraded afterwards: longer than the pauses of scrapes and alert rules,
	// and no longer than somebody needs to look. The log and the metric stay.
	resetShown = 10 * time.Minute
	// resetKept is for how long a replica that returns late is told that others have done it.
	resetKept  = 24 * time.Hour
	retryAfter = time.Second
)

const (
	doneBy   = "done by " // begins what the replica that has finished leaves in the key Reset
	restored = " (restored after Redis lost its data)"
)

// resets makes a loss of Redis' data known, and puts back the protected holds that this replica knew.
//
// Of all replicas one does that: the first that takes the key Reset. It need not be the one that wrote the new
// identity, which may have just started and know of nothing.
type resets struct {
	store   *redisstore.Store
	docs    *redisdocs.Docs
	holds   *holds
	force   func(ctx context.Context, agent string, f breaker.Force) (breaker.State, error)
	gate    func(ctx context.Context) error // puts it back
	replica string
	restore bool // ON_STORE_RESET
	log     *slog.Logger
	wake    chan struct{}
	noticed atomic.Int64 // losses

	mu      sync.Mutex
	pending *storeReset // nil: nothing is left to do
	last    time.Time
	text    string // what became of the last
}

// storeReset is one loss of Redis' data.
type storeReset struct {
	is        string    // the identity of the data since
	since, at time.Time // when the former data was last there, and when that was noticed
	current   bool      // no other replica can know better
	announced bool

	holds   map[string]protectedHold // that this replica knew
	settled map[string]string        // what became of each; guarded by resets.mu
}

// What becomes of a hold.
const (
	holdRestored  = "restored"
	holdEnded     = "ended"     // its time is over
	holdStands    = "stands"    // there is a hold
	holdOverruled = "overruled" // an operator has acted since
	holdRefused   = "refused"   // Redis refuses to show or to hold this breaker
)

func newResets(r *Replica) *resets {
	return &resets{
		store: r.Store, docs: r.Docs, holds: r.holds, force: r.Manager.Force, replica: r.ID,
		gate:    r.gate.putBack,
		restore: r.o.OnStoreReset == "restore", log: r.log, wake: make(chan struct{}, 1),
	}
}

// notice is called when Redis is found to have lost its data.
func (x *resets) notice(was, is string, since time.Time) {
	x.noticed.Add(1)
	x.mu.Lock()
	defer x.mu.Unlock()
	holds, current := x.holds.surrender()
	current = current && time.Since(since) < unseen
	if p := x.pending; p != nil { // lost again, before all was put back
		current = current || p.current
	}
	what := "one replica puts protected holds back"
	if !x.restore {
		holds, what = nil, "protected holds are not put back (ON_STORE_RESET=forget)"
	}
	x.log.Error("Redis lost its data: breakers are closed, and holds, overrides and profiles are gone; "+what,
		"event", "circuit_breaker.store_reset", "was", was, "is", is, "holds_known", len(holds))
	x.pending = &storeReset{
		is: is, since: since, at: time.Now(), current: current, holds: holds, settled: map[string]string{},
	}
	x.last, x.text = x.pending.at, what
	signal(x.wake)
}

// status says for a while after a loss what becomes of it; "": nothing is to be said. pending: holds are not put back
// yet.
func (x *resets) status() (text string, pending bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last.IsZero() || x.pending == nil && time.Since(x.last) > resetShown {
		return "", false
	}
	return "Redis lost its data at " + x.last.UTC().Format(time.RFC3339) + ": " + x.text, x.pending != nil
}

// noticedSince reports whether a loss was noticed since then.
func (x *resets) noticedSince(then time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last.After(then)
}

// run does what a loss asks for, until ctx ends.
func (x *resets) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		case <-timer.C:
		}
		if p := x.pendingNow(); p != nil {
			timer.Reset(x.step(ctx, p))
		}
	}
}

func (x *resets) pendingNow() *storeReset {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.pending
}

// step does what is due, and returns the pause until the next step.
func (x *resets) step(ctx context.Context, p *storeReset) (pause time.Duration) {
	if wait := time.Until(p.at.Add(restoreLate)); !p.current && wait > 0 {
		return wait
	}
	if x.holds.identify(ctx) != nil {
		return retryAfter
	}
	if x.pendingNow() != p { // Redis has lost its data again, and with it who has the turn
		return 0
	}
	key := x.store.Keys().Reset(p.is)
	who, err := x.docs.Lease(ctx, key, x.replica, restoreTurn)
	switch {
	case err != nil:
		return retryAfter
	case strings.HasPrefix(who, doneBy):
		x.finish(p, "replica "+strings.TrimPrefix(who, doneBy)+" has seen to the protected holds")
		return 0
	case who != x.replica:
		return retryAfter
	}
	if !p.announced {
		text := "Redis lost its data, which is " + p.is + " now; noticed by " + x.replica
		if x.store.Announce(ctx, redisstore.EventStoreReset, "-", text, false) != nil {
			return retryAfter
		}
		p.announced = true
	}
	if wait := time.Until(p.at.Add(restoreAfter)); wait > 0 {
		return wait
	}
	if !x.putBack(ctx, p) || x.docs.PutLease(ctx, key, doneBy+x.replica, resetKept) != nil {
		return retryAfter
	}
	x.finish(p, x.sum(p))
	return 0
}

// finish says what became of a loss.
func (x *resets) finish(p *storeReset, text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pending == p {
		x.pending, x.text = nil, text
		x.holds.settleAll()
	}
	x.log.Warn("Redis lost its data: "+text, "event", "circuit_breaker.store_reset_done", "is", p.is)
}

func (x *resets) sum(p *storeReset) string {
	if !x.restore {
		return x.text
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	n := map[string]int{}
	for _, became := range p.settled {
		n[became]++
	}
	const text = "of %d protected holds %d were put back, %d had ended, %d stood again, of %d an operator had decided"
	sum := fmt.Sprintf(text, len(p.holds), n[holdRestored], n[holdEnded], n[holdStands], n[holdOverruled])
	if n[holdRefused] > 0 {
		sum += fmt.Sprintf(", %d are given up because Redis refuses them", n[holdRefused])
	}
	return sum
}

// putBack puts back the holds that are not settled. It reports whether all are, then.
func (x *resets) putBack(ctx context.Context, p *storeReset) bool {
	if x.restore {
		if err := x.gate(ctx); err != nil { // before the holds [B24]
			x.log.Debug("the fleet's gate is not put back yet", "error", err)
			return false
		}
	}
	var group errgroup.Group
	group.SetLimit(holdsAtOnce)
	for agent, hold := range p.holds {
		x.mu.Lock()
		became := p.settled[agent]
		x.mu.Unlock()
		if became == "" {
			group.Go(func() error { return x.settle(ctx, p, agent, hold) })
		}
	}
	if err := group.Wait(); err != nil {
		x.log.Debug("holds are not put back yet", "error", err)
		return false
	}
	return true
}

// settle puts one hold back, if need be, and notes what became of it.
func (x *resets) settle(ctx context.Context, p *storeReset, agent string, hold protectedHold) error {
	losses := x.holds.lossesNow()
	became, err := x.putBackOne(ctx, p, agent, hold)
	log, level, back := x.log, slog.LevelWarn, (*protectedHold)(nil)
	switch {
	case refused(err): // that agent's alone: the others do not wait for it
		became, level, log = holdRefused, slog.LevelError, log.With("error", err)
	case err != nil:
		return fmt.Errorf("agent %q: %w", agent, err)
	case became == holdRestored:
		back = &hold
	}
	if became != holdRefused && !x.holds.settle(losses, agent, back) {
		return fmt.Errorf("agent %q: lost again", agent)
	}
	x.mu.Lock()
	p.settled[agent] = became
	x.mu.Unlock()
	log.Log(ctx, level, "Protected hold after Redis lost its data: "+became, "event", "circuit_breaker.hold_"+became,
		"agent", agent, "hold", string(hold.target), "reason", hold.reason, "actor", hold.actor)
	return nil
}

// putBackOne puts a hold back, unless it has ended, or somebody has decided otherwise.
func (x *resets) putBackOne(
	ctx context.Context, p *storeReset, agent string, hold protectedHold,
) (became string, err error) {
	if !x.holds.isLost(agent) { // another replica had put it back; what became of it since is known
		return holdStands, nil
	}
	v, err := x.holds.inspect(ctx, agent)
	if err != nil {
		return "", err
	}
	if v.Hold.Kind != "" {
		return holdStands, nil
	}
	sinceMs := v.NowMs - time.Since(p.since).Milliseconds()
	if slices.ContainsFunc(v.Log, func(e breaker.Event) bool { return e.AtMs >= sinceMs && decides(e) }) {
		return holdOverruled, nil
	}
	f := breaker.Force{
		Target: hold.target, Reason: strings.TrimSuffix(hold.reason, restored) + restored,
		Actor: cmp.Or(hold.actor, "-"), Protected: true,
	}
	if !hold.until.IsZero() {
		if f.LengthMs = time.Until(hold.until).Milliseconds(); f.LengthMs <= 0 {
			return holdEnded, nil
		}
	}
	switch _, err := x.force(ctx, agent, f); {
	case errors.Is(err, breaker.ErrHoldProtected):
		return holdStands, nil
	case err != nil:
		return "", err
	}
	_ = x.docs.MarkSeen(ctx, []string{agent}) // if it fails, the index lists the agent after its repair
	return holdRestored, nil
}

// decides says that an operator has decided about a breaker's state.
func decides(e breaker.Event) bool {
	return e.Manual() && e.Kind != machine.EventConfigured && e.Kind != machine.EventEditUndone
}
