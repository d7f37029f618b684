package replica

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	holdsEvery = 10 * time.Second
	// holdsAtOnce is how many breakers are inspected at once, in the background. They share round trips.
	holdsAtOnce = 8
	// holdsChunk is after how many inspections the identity of Redis' data is compared.
	holdsChunk = 1000
	// holdsTold bounds the agents that events have named and that are not inspected yet. The poll finds the others.
	holdsTold = 10_000
)

// holds keeps this replica's knowledge of the breakers that are not closed, or held, of all agents: for the fallback,
// which answers while Redis is down, and for a Redis that lost its data. It follows the index of such breakers, by a
// poll and by the events of all replicas. One replica at a time corrects that index.
type holds struct {
	docs      *redisdocs.Docs
	inspect   func(ctx context.Context, agent string) (breaker.View, error)
	learn     func(agent string, v breaker.View) // the fallback's
	degraded  func() bool
	identify  func(ctx context.Context) error // see Replica.identify
	replica   string
	sweeper   string // the key
	announce  func(ctx context.Context, agent, epoch string, state breaker.State, text string) error
	reminders reminders
	most      int
	log       *slog.Logger

	wake, again chan struct{}
	pace        pace

	mu    sync.Mutex
	known map[string]knownBreaker
	told  map[string]bool // by events, and not inspected yet; true: of something that an operator has done
	whole bool            // the next poll inspects every breaker, as one that nothing is known of
	// refused are agents whose breaker Redis refuses to show, since it did so first. It says nothing about others.
	refused map[string]bool
	// current: the last poll was answered, and so was Redis asked since.
	current bool
	losses  int // how often Redis has lost its data: what was read before is not kept
	// lost are the protected holds that were there before, until they are seen again, or somebody has seen to them.
	lost map[string]protectedHold
}

// knownBreaker is a breaker that is not closed, or held.
type knownBreaker struct {
	score float64 // in the index, when it was inspected; 0: not known
	hold  *protectedHold
	timed *timedHold
	since time.Time // when this replica put the hold back, if it has not been read since
}

// protectedHold is what outlives Redis' data.
type protectedHold struct {
	target breaker.Target
	until  time.Time // zero: without end
	reason string
	actor  string
}

func newHolds(r *Replica) *holds {
	policy := r.o.Policy // it decides nothing of what is kept: waits and holds carry their lengths
	return &holds{
		docs: r.Docs, learn: r.learn, degraded: r.Fallback.Degraded, identify: r.identify,
		inspect: func(ctx context.Context, agent string) (breaker.View, error) {
			return r.Store.Inspect(ctx, agent, policy)
		},
		replica: r.ID, sweeper: r.Store.Keys().Sweeper(), reminders: newReminders(r),
		announce: r.Store.AnnounceHoldEnds, most: r.o.MaxAgents, log: r.log, whole: true,
		wake: make(chan struct{}, 1), again: make(chan struct{}, 1), pace: newPace(),
		known: map[string]knownBreaker{}, told: map[string]bool{}, refused: map[string]bool{},
	}
}

// run polls, and follows the events, until ctx ends.
func (h *holds) run(ctx context.Context) {
	tick := time.NewTicker(holdsEvery)
	defer tick.Stop()
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	h.try(ctx, h.poll)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.again:
			h.try(ctx, h.poll)
		case <-tick.C:
			h.try(ctx, h.poll)
			h.try(ctx, h.sweep)
		case <-h.wake:
			h.try(ctx, h.inspectTold)
		case <-retry.C:
			h.try(ctx, h.inspectTold)
		}
	}
}

// try runs a task that the next round repeats.
func (h *holds) try(ctx context.Context, task func(context.Context) error) {
	if h.degraded() { // the poll of its return makes up for it
		return
	}
	if err := task(ctx); err != nil && ctx.Err() == nil {
		h.doubt()
		h.log.Debug("breakers that are not closed were not read", "error", err)
	}
}

// tell has an agent inspected, for something has happened to its breaker: at once if it is manual, otherwise at most
// once a second. It never waits.
func (h *holds) tell(agent string, manual bool) {
	h.mu.Lock()
	if len(h.told) < holdsTold {
		h.told[agent] = h.told[agent] || manual
	}
	h.mu.Unlock()
	signal(h.wake)
}

// doubt says that Redis did not answer: others may have changed meanwhile what this replica knows.
func (h *holds) doubt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = false
}

// restart has everything read anew, at once: Redis is back, and nothing was learned meanwhile.
func (h *holds) restart() {
	h.mu.Lock()
	h.whole = true
	h.mu.Unlock()
	signal(h.again)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// surrender returns the protected holds that this replica knows, or that were lost before and are not back, and forgets
// all else: Redis has lost its data. current says that no other replica can know better.
func (h *holds) surrender() (protected map[string]protectedHold, current bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	protected = map[string]protectedHold{}
	maps.Copy(protected, h.lost)
	for agent, k := range h.known {
		if k.hold != nil {
			protected[agent] = *k.hold
		}
	}
	current = h.current
	h.known, h.current, h.whole, h.lost = map[string]knownBreaker{}, false, true, maps.Clone(protected)
	h.losses++
	signal(h.again)
	return protected, current
}

// poll reads the index, and inspects the breakers that have changed, or are in it no longer.
func (h *holds) poll(ctx context.Context) error {
	if err := h.identify(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	losses, whole, known := h.losses, h.whole, maps.Clone(h.known)
	h.mu.Unlock()
	listed, err := h.docs.NotClosed(ctx)
	if err != nil {
		return err
	}
	changed := map[string]float64{}
	for agent, score := range listed {
		if k, ok := known[agent]; whole || !ok || k.score != score {
			changed[agent] = score
		}
	}
	for agent := range known {
		if _, ok := listed[agent]; !ok {
			changed[agent] = 0
		}
	}
	if err := h.read(ctx, changed); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.losses == losses && !h.degraded() { // while degraded the fallback learns nothing
		// One that knows nothing, because Redis refuses to show it, leaves it to others.
		h.current, h.whole = len(h.known) > 0 || len(h.refused) == 0, false
	}
	return nil
}

// inspectTold inspects the agents that events have named, but for those that wait for their second to end.
func (h *holds) inspectTold(ctx context.Context) error {
	due := map[string]float64{}
	h.mu.Lock()
	for agent, manual := range h.told {
		if h.pace.due(agent) || manual {
			due[agent] = 0
			delete(h.told, agent)
		}
	}
	h.mu.Unlock()
	return h.read(ctx, due)
}

// read inspects agents and remembers what it finds; a score is the agent's in the index, or 0.
func (h *holds) read(ctx context.Context, agents map[string]float64) error {
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(agents)), holdsChunk) {
		h.mu.Lock()
		losses, begun := h.losses, time.Now()
		h.mu.Unlock()
		views, err := h.inspectAll(ctx, chunk)
		if err == nil {
			err = h.identify(ctx) // it notices if the answers are those of a Redis that lost its data
		}
		if err != nil {
			return err
		}
		h.keep(losses, begun, agents, views)
	}
	return nil
}

// inspectAll inspects agents. The views lack those that Redis refuses to show.
func (h *holds) inspectAll(ctx context.Context, agents []string) (map[string]breaker.View, error) {
	var mu sync.Mutex
	views := make(map[string]breaker.View, len(agents))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(holdsAtOnce)
	for _, agent := range agents {
		group.Go(func() error {
			v, err := h.inspect(ctx, agent)
			h.noteRefused(agent, err)
			if refused(err) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			views[agent] = v
			return err
		})
	}
	return views, group.Wait()
}

// refused says that Redis has answered, and refuses what was asked of one agent: the error is that agent's alone.
func refused(err error) bool {
	storeErr, ok := errors.AsType[*breaker.StoreError](err)
	return ok && storeErr.Refused
}

// noteRefused logs once that Redis refuses to show an agent's breaker. What was known of it stays, and the next poll
// asks again.
func (h *holds) noteRefused(agent string, err error) {
	h.mu.Lock()
	was, is := h.refused[agent], refused(err)
	switch {
	case err == nil:
		delete(h.refused, agent)
	case is && len(h.refused) < h.most:
		h.refused[agent] = true
	}
	h.mu.Unlock()
	if is && !was {
		h.log.Error("Redis refuses to show an agent's breaker: while Redis is down, this replica may not know its hold",
			"event", "circuit_breaker.hold_unreadable", "agent", agent, "error", err)
	}
}

// settle says that somebody has seen to a lost hold; back is the hold if this replica has put it back, after so many
// losses. It reports false if that was in vain, for Redis has lost its data again.
func (h *holds) settle(losses int, agent string, back *protectedHold) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if back != nil && h.losses != losses {
		return false
	}
	delete(h.lost, agent)
	if back != nil {
		h.known[agent] = knownBreaker{hold: back, since: time.Now()}
	}
	return true
}

// isLost reports whether a hold that was lost is not back, as far as this replica knows.
func (h *holds) isLost(agent string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, is := h.lost[agent]
	return is
}

// settleAll says that somebody has seen to all lost holds.
func (h *holds) settleAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = nil
}

// lossesNow returns how often Redis has lost its data.
func (h *holds) lossesNow() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.losses
}

// keep remembers views that were read since begun, after so many losses.
func (h *holds) keep(losses int, begun time.Time, scores map[string]float64, views map[string]breaker.View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.losses != losses {
		return
	}
	for agent, v := range views {
		k, has := h.known[agent]
		if has && !k.since.Before(begun) { // the view may be from before the hold was put back
			continue
		}
		if v.Hold.Kind != "" { // from now on it is known whether the hold stands
			delete(h.lost, agent)
		}
		h.learn(agent, v)
		hold := protectedOf(v)
		switch {
		case calm(v):
			delete(h.known, agent)
		case has, hold != nil, len(h.known) < h.most:
			h.known[agent] = knownBreaker{score: scores[agent], hold: hold, timed: timedOf(v)}
		}
	}
}

// calm says that a breaker is closed and not held.
func calm(v breaker.View) bool { return v.State == breaker.Closed && v.Hold.Kind == "" }

func protectedOf(v breaker.View) *protectedHold {
	if v.Hold.Kind == "" || v.Hold.Protected != 1 {
		return nil
	}
	p := &protectedHold{target: breaker.HoldOpen, reason: view.Reason(v), actor: v.Hold.Actor}
	if v.Hold.Kind == breaker.Closed {
		p.target = breaker.HoldClosed
	}
	if v.Hold.LengthMs > 0 {
		p.until = time.Now().Add(time.Duration(v.DeadlineMs()-v.NowMs) * time.Millisecond)
	}
	return p
}

// sweep reminds of holds that end soon, and corrects the index, if no other replica does: a breaker that is closed by
// now leaves it, and one that is not closed and is missing, for somebody edited its keys, comes in.
func (h *holds) sweep(ctx context.Context) error {
	const turn = holdsEvery - time.Second
	if who, err := h.docs.Lease(ctx, h.sweeper, h.replica, turn); err != nil || who != h.replica {
		return err
	}
	if err := h.remind(ctx); err != nil {
		return err
	}
	listed, err := h.docs.NotClosed(ctx)
	if err != nil {
		return err
	}
	doubtful, err := h.misplaced(ctx, listed)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(doubtful, holdsChunk) {
		views, err := h.inspectAll(ctx, chunk)
		if err != nil {
			return err
		}
		for agent, v := range views {
			score, is := listed[agent]
			switch {
			case is && calm(v):
				err = errors.Join(err, h.docs.RemoveNotClosed(ctx, agent, score))
			case !is && !calm(v):
				err = errors.Join(err, h.docs.AddNotClosed(ctx, agent, v.NowMs))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// misplaced lists the agents that the index has and whose :state is closed, for they may be held, and those that it has
// not and whose :state is another.
func (h *holds) misplaced(ctx context.Context, listed map[string]float64) ([]string, error) {
	agents, err := h.docs.Agents(ctx)
	if err != nil {
		return nil, err
	}
	agents = slices.DeleteFunc(agents, func(a string) bool { _, is := listed[a]; return is })
	agents = slices.AppendSeq(agents, maps.Keys(listed))
	states, err := h.readStates(ctx, agents)
	if err != nil {
		return nil, err
	}
	var found []string
	for agent, state := range states {
		closed := state == breaker.Closed || state == ""
		if _, is := listed[agent]; is == closed {
			found = append(found, agent)
		}
	}
	return found, nil
}

// readStates reads the :state of agents. It lacks those that Redis refuses to show, which are found by halves.
func (h *holds) readStates(ctx context.Context, agents []string) (map[string]breaker.State, error) {
	states, err := h.docs.States(ctx, agents)
	found := make(map[string]breaker.State, len(agents))
	if err == nil {
		for i, agent := range agents {
			found[agent] = states[i]
		}
		return found, nil
	}
	if !refused(err) {
		return nil, err
	}
	if len(agents) == 1 {
		return found, nil
	}
	for half := range slices.Chunk(agents, (len(agents)+1)/2) {
		some, err := h.readStates(ctx, half)
		if err != nil {
			return nil, err
		}
		maps.Copy(found, some)
	}
	return found, nil
}
