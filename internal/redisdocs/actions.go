package redisdocs

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// actionKept is for how long an action is shown, and carried on with.
const actionKept = 24 * time.Hour

// Action is one change of many agents' breakers. Redis holds it until a day after it was asked for, so that any replica
// can go on with it.
type Action struct {
	ID         string // 16 hex digits
	CreatedMs  int64  // by Redis' clock
	FinishedMs int64  // 0: it is under way

	Force   breaker.Force     // of each agent
	Results map[string]string // by agent: one of the constants Action…; "": it is still to be done
}

// What became of an agent's part of an action.
const (
	ActionDone          = "done"
	ActionHoldProtected = "hold_protected"
	ActionHoldExists    = "hold_exists"
	ActionNotHeld       = "not_held"
	ActionAgentUnknown  = "agent_unknown"
	ActionRefused       = "refused" // Redis refuses to change this breaker
)

// Left are the agents whose part is still to be done, by name.
func (a *Action) Left() (agents []string) {
	for agent, result := range a.Results {
		if result == "" {
			agents = append(agents, agent)
		}
	}
	slices.Sort(agents)
	return agents
}

// The fields of an action's hash: of the action, and of each agent the prefix and its name. No name begins so.
const (
	actionSpec     = "spec"
	actionFinished = "finished_ms"
	actionAgent    = ":"
)

// spec is an action without what becomes of it.
type spec struct {
	CreatedMs int64          `json:"created_ms"`
	Target    breaker.Target `json:"target"`
	LengthMs  int64          `json:"length_ms,omitempty"`
	RampMs    int64          `json:"ramp_ms,omitempty"`
	Reason    string         `json:"reason"`
	Actor     string         `json:"actor"`
	Address   string         `json:"address,omitempty"`
	Protected bool           `json:"protected,omitempty"`
	Override  bool           `json:"force,omitempty"`
	Yield     breaker.Yield  `json:"yield,omitempty"`
}

// PutAction writes an action. Once all of it is there, any replica may carry it out.
func (d *Docs) PutAction(ctx context.Context, a *Action) error {
	now, err := d.ClockMs(ctx)
	if err != nil {
		return err
	}
	a.CreatedMs = now
	f := &a.Force
	text, err := json.Marshal(spec{
		CreatedMs: now, Target: f.Target, LengthMs: f.LengthMs, RampMs: f.RampMs, Reason: f.Reason, Actor: f.Actor,
		Address: f.Address, Protected: f.Protected, Override: f.Override, Yield: f.Yield,
	})
	if err != nil {
		return err
	}
	if err := d.SettleAction(ctx, a.ID, a.Results); err != nil {
		return err
	}
	if err := d.client.HSet(ctx, d.keys.FleetAction(a.ID), actionSpec, text).Err(); err != nil {
		return redisstore.WrapError("action", "", err)
	}
	key := d.keys.FleetActions()
	return failed("action", "", d.write(ctx, key, func() error {
		return d.client.ZAdd(ctx, key, redis.Z{Score: float64(now), Member: a.ID}).Err()
	}))
}

// SettleAction writes what became of some agents.
func (d *Docs) SettleAction(ctx context.Context, id string, results map[string]string) error {
	key := d.keys.FleetAction(id)
	fields := make([]string, 0, 2*len(results))
	for agent, result := range results {
		fields = append(fields, actionAgent+agent, result)
	}
	pipe := d.client.Pipeline()
	for some := range slices.Chunk(fields, 2*chunk) {
		pipe.HSet(ctx, key, some)
	}
	pipe.Expire(ctx, key, actionKept)
	if _, err := pipe.Exec(ctx); err != nil {
		return redisstore.WrapError("action", "", err)
	}
	return nil
}

// FinishAction says that nothing of an action is left to do.
func (d *Docs) FinishAction(ctx context.Context, id string) error {
	now, err := d.ClockMs(ctx)
	if err != nil {
		return err
	}
	pipe := d.client.Pipeline() // on a Cluster the keys have different slots
	set := pipe.HSet(ctx, d.keys.FleetAction(id), actionFinished, now)
	lives := pipe.Expire(ctx, d.keys.FleetAction(id), actionKept)
	drop := pipe.ZRem(ctx, d.keys.FleetActions(), id)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	return failed("action", "", cmp.Or(set.Err(), lives.Err(), drop.Err()))
}

// DropAction takes an action that cannot be read, or is gone, from those that are not finished.
func (d *Docs) DropAction(ctx context.Context, id string) error {
	return failed("action", "", d.client.ZRem(ctx, d.keys.FleetActions(), id).Err())
}

// Actions are the ids of the actions that are not finished, the oldest first.
func (d *Docs) Actions(ctx context.Context) ([]string, error) {
	ids, err := d.client.ZRange(ctx, d.keys.FleetActions(), 0, -1).Result()
	return ids, failed("action", "", err)
}

// ActionFinished reports whether nothing of an action is left to do.
func (d *Docs) ActionFinished(ctx context.Context, id string) (bool, error) {
	finished, err := d.client.HExists(ctx, d.keys.FleetAction(id), actionFinished).Result()
	return finished, failed("action", "", err)
}

// Action reads an action. ok is false if there is none, or no longer.
func (d *Docs) Action(ctx context.Context, id string) (a Action, ok bool, err error) {
	fields, err := d.client.HGetAll(ctx, d.keys.FleetAction(id)).Result()
	if err := failed("action", "", err); err != nil {
		return a, false, err
	}
	var s spec
	if ok = json.Unmarshal([]byte(fields[actionSpec]), &s) == nil; !ok {
		return a, false, nil
	}
	a = Action{ID: id, CreatedMs: s.CreatedMs, Results: map[string]string{}, Force: breaker.Force{
		Target: s.Target, LengthMs: s.LengthMs, RampMs: s.RampMs, Reason: s.Reason, Actor: s.Actor, Address: s.Address,
		Protected: s.Protected, Override: s.Override, Yield: s.Yield, ID: id,
	}}
	a.FinishedMs, _ = strconv.ParseInt(fields[actionFinished], 10, 64)
	for field, result := range fields {
		if agent, is := strings.CutPrefix(field, actionAgent); is {
			a.Results[agent] = result
		}
	}
	return a, true, nil
}
