package replica

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	// actionsPoll is how often a replica looks for an action whose replica has died.
	actionsPoll = 2 * time.Second
	// actionTurn is for how long a replica that carries an action out is waited for.
	actionTurn = 10 * time.Second
	// actionChunk is after how many agents the results are written, and the turn is renewed.
	actionChunk = 200
	// actionsAtOnce is how many breakers an action changes at once. They share round trips.
	actionsAtOnce = 32
	// actionAsks is how often who waits for an action asks for its end: any replica may carry it out.
	actionAsks = 25 * time.Millisecond
)

// actions carries out what operators ask of many agents. The work list is in Redis, and any replica goes on with it.
// A breaker remembers the action's id, so that a replica that does not know of the other's last chunk changes nothing
// twice.
type actions struct {
	docs    *redisdocs.Docs
	keys    redisstore.Keys
	force   func(ctx context.Context, agent string, f breaker.Force) (breaker.State, error)
	known   func(ctx context.Context, agent string) (bool, error)
	down    func() bool
	replica string
	log     *slog.Logger
	wake    chan struct{}
}

func newActions(r *Replica) *actions {
	return &actions{
		docs: r.Docs, keys: r.Store.Keys(), force: r.Manager.Force, known: r.Known, down: r.Fallback.Degraded,
		replica: r.ID, log: r.log, wake: make(chan struct{}, 1),
	}
}

// run carries out actions until ctx ends.
func (a *actions) run(ctx context.Context) {
	t := time.NewTicker(actionsPoll)
	defer t.Stop()
	for {
		if !a.down() {
			a.round(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-a.wake:
		}
	}
}

// round goes through the actions that are not finished, the oldest first.
func (a *actions) round(ctx context.Context) {
	ids, err := a.docs.Actions(ctx)
	for _, id := range ids {
		if err = a.carryOut(ctx, id); err != nil {
			break // the next round tries again
		}
	}
	if err != nil && ctx.Err() == nil {
		a.log.Debug("an action is not carried out yet", "error", err)
	}
}

// carryOut does what is left of an action, unless another replica does.
func (a *actions) carryOut(ctx context.Context, id string) error {
	if mine, err := a.turn(ctx, id); !mine {
		return err
	}
	action, ok, err := a.docs.Action(ctx, id)
	if err != nil {
		return err
	}
	if !ok {
		a.log.Error("an action cannot be read, and is given up", "event", "circuit_breaker.action_lost", "action", id)
		return a.docs.DropAction(ctx, id)
	}
	for some := range slices.Chunk(action.Left(), actionChunk) {
		if mine, err := a.turn(ctx, id); !mine {
			return err
		}
		results, err := a.change(ctx, action.Force, some)
		if len(results) > 0 {
			err = errors.Join(err, a.docs.SettleAction(ctx, id, results))
		}
		if err != nil {
			return err
		}
	}
	if err := a.docs.FinishAction(ctx, id); err != nil {
		return err
	}
	a.log.Warn("Action on many agents is finished", "event", "circuit_breaker.action_done", "action", id,
		"agents", len(action.Results), "target", string(action.Force.Target), "actor", action.Force.Actor)
	return nil
}

// turn takes, or renews, the turn to carry an action out.
func (a *actions) turn(ctx context.Context, id string) (mine bool, err error) {
	who, err := a.docs.Lease(ctx, a.keys.FleetActionTurn(id), a.replica, actionTurn)
	return err == nil && who == a.replica, err
}

// change does an action's part of some agents. Beside an error there are the results of those that were done.
func (a *actions) change(ctx context.Context, f breaker.Force, agents []string) (map[string]string, error) {
	results := make([]string, len(agents))
	var group errgroup.Group
	group.SetLimit(actionsAtOnce)
	for i, agent := range agents {
		group.Go(func() (err error) {
			results[i], err = a.changeOne(ctx, f, agent)
			return err
		})
	}
	err := group.Wait()
	done := map[string]string{}
	for i, agent := range agents {
		if results[i] != "" {
			done[agent] = results[i]
		}
	}
	return done, err
}

// changeOne does one agent's part. An error says that it is to be tried again.
func (a *actions) changeOne(ctx context.Context, f breaker.Force, agent string) (result string, err error) {
	known, err := a.known(ctx, agent)
	if err != nil {
		return "", err
	}
	if !known {
		return redisdocs.ActionAgentUnknown, nil
	}
	_, err = a.force(ctx, agent, f)
	var bad *breaker.ForceError // of a hand in Redis
	switch {
	case err == nil:
		return redisdocs.ActionDone, nil
	case errors.Is(err, breaker.ErrHoldProtected):
		return redisdocs.ActionHoldProtected, nil
	case errors.Is(err, breaker.ErrHoldExists):
		return redisdocs.ActionHoldExists, nil
	case errors.Is(err, breaker.ErrNotHeld):
		return redisdocs.ActionNotHeld, nil
	case refused(err), errors.As(err, &bad), errors.Is(err, breaker.ErrBadName):
		a.log.Error("a breaker cannot be changed", "event", "circuit_breaker.action_refused", "agent", agent,
			"action", f.ID, "error", err)
		return redisdocs.ActionRefused, nil
	}
	return "", err
}

// Act begins an action on agents: what f says, of each of them once. Any replica carries it out. Act waits for its end
// as long as wait, and no longer than ctx. text says in the audit what was asked for.
func (r *Replica) Act(
	ctx context.Context, f breaker.Force, agents []string, text string, wait time.Duration,
) (id string, err error) {
	f.Address = breaker.AddressOf(ctx)
	action := redisdocs.Action{ID: newActionID(), Force: f, Results: map[string]string{}}
	for _, agent := range agents {
		action.Results[agent] = ""
	}
	if err := r.Docs.PutAction(ctx, &action); err != nil {
		return "", err
	}
	r.log.Warn("Action on many agents", "event", "circuit_breaker.action", "action", action.ID, "text", text,
		"actor", f.Actor, "address", f.Address)
	text = "action " + action.ID + ": " + text
	if err := r.Store.Announce(ctx, redisstore.EventAction, f.Actor, text, true); err != nil { // it counts all the same
		r.log.Warn("an action is not in the audit", "actor", f.Actor, "text", text, "error", err)
	}
	signal(r.actions.wake)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		select {
		case <-time.After(actionAsks):
		case <-ctx.Done():
			return action.ID, nil
		}
		// An error does not end the action, which is under way.
		if finished, _ := r.Docs.ActionFinished(ctx, action.ID); finished {
			break
		}
	}
	return action.ID, nil
}

func newActionID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
