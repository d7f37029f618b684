package redisdocs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Fault is something in Redis that is not as breakers leave it.
type Fault struct {
	Code  string // one of the constants Fault…
	Agent string // "": the fleet's
	Key   string // "": no single one
	Text  string
}

// The codes of faults.
const (
	FaultBadKey       = "bad_key"        // a key has another type, or a value in it is not allowed [B20]
	FaultHandEdit     = "hand_edit"      // somebody edited the keys, and no call has come since [B19]
	FaultExpiry       = "wrong_expiry"   // a key does not expire with the others of its breaker [B25]
	FaultNotInIndex   = "not_in_index"   // lists do not show the agent
	FaultNotNotClosed = "not_listed"     // it is not closed, or held, and the list of such breakers lacks it
	FaultUnreadable   = "cannot_be_read" // Redis refuses to show it
)

const (
	// verifyAtOnce is how many agents are verified at once. They share round trips.
	verifyAtOnce = 32
	// verifyAgain is after how long a fault is looked for again: what is a change under way is over by then, and an
	// agent that is new is in the index.
	verifyAgain = 1500 * time.Millisecond
)

// PlantedKeys finds the fleet's keys that are of another type than theirs.
func (d *Docs) PlantedKeys(ctx context.Context) (out []Fault, err error) {
	kinds := map[string][]string{
		"zset":   {d.keys.Agents(), d.keys.NotClosed(), d.keys.Replicas(), d.keys.FleetActions()},
		"stream": {d.keys.Stream(), d.keys.Audit()},
		"hash":   {d.keys.Fleet(), d.keys.Edges(), d.keys.PermitKey(), d.keys.Workflows()},
		"string": {d.keys.Overrides(), d.keys.Sweeper()},
		"list":   {d.keys.Executions()},
	}
	want := map[string]string{}
	for kind, keys := range kinds {
		for _, key := range keys {
			want[key] = kind
		}
	}
	types, err := d.typesOf(ctx, want)
	for key, is := range types {
		if is != want[key] {
			out = append(out, Fault{Code: FaultBadKey, Key: key, Text: fmt.Sprintf("it is a %s, not a %s", is, want[key])})
		}
	}
	slices.SortFunc(out, func(a, b Fault) int { return strings.Compare(a.Key, b.Key) })
	return out, err
}

// typesOf reads the types of the keys of a map that exist.
func (d *Docs) typesOf(ctx context.Context, keys map[string]string) (map[string]string, error) {
	pipe := d.client.Pipeline()
	cmds := map[string]*redis.StatusCmd{}
	for key := range keys {
		cmds[key] = pipe.Type(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, redisstore.WrapError("verify", "", err)
	}
	types := map[string]string{}
	for key, c := range cmds {
		if c.Val() != "none" {
			types[key] = c.Val()
		}
	}
	return types, nil
}

// Verify finds what is wrong in the keys of agents, by agent. What it finds it looks for again a moment later, so that
// a change under way is none.
func (d *Docs) Verify(ctx context.Context, agents []string) ([]Fault, error) {
	found, err := d.verify(ctx, agents)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	select {
	case <-time.After(verifyAgain):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var suspects []string
	for _, f := range found {
		suspects = append(suspects, f.Agent)
	}
	slices.Sort(suspects)
	again, err := d.verify(ctx, slices.Compact(suspects))
	return slices.DeleteFunc(again, func(f Fault) bool { return !slices.Contains(found, f) }), err
}

// verify is one look.
func (d *Docs) verify(ctx context.Context, agents []string) (out []Fault, err error) {
	inIndex, inNotClosed, err := d.listed(ctx, agents)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(verifyAtOnce)
	for i, agent := range agents {
		group.Go(func() error {
			faults, known, listed, err := d.verifyOne(ctx, agent)
			if err != nil {
				return err
			}
			if known && !inIndex[i] {
				faults = append(faults, Fault{
					Code: FaultNotInIndex, Agent: agent, Key: d.keys.Agents(),
					Text: "it has keys, and the index of agents lacks it",
				})
			}
			if listed && !inNotClosed[i] {
				faults = append(faults, Fault{
					Code: FaultNotNotClosed, Agent: agent, Key: d.keys.NotClosed(),
					Text: "it is not closed, or held, and the list of such breakers lacks it",
				})
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, faults...)
			return nil
		})
	}
	err = group.Wait()
	slices.SortStableFunc(out, func(a, b Fault) int { return strings.Compare(a.Agent, b.Agent) })
	return out, err
}

// verifyOne looks at the keys of one agent. known: it has some; listed: NotClosed should have it.
func (d *Docs) verifyOne(ctx context.Context, agent string) (out []Fault, known, listed bool, err error) {
	add := func(code, key, text string) {
		out = append(out, Fault{Code: code, Agent: agent, Key: key, Text: text})
	}
	v, err := d.store.Verify(ctx, agent)
	if e, is := errors.AsType[*breaker.StoreError](err); is && e.Refused {
		add(FaultUnreadable, "", e.Err.Error())
		return out, false, false, nil
	}
	if err != nil {
		return nil, false, false, err
	}
	for _, f := range v.Faults {
		code := FaultBadKey
		if f.Edit {
			code = FaultHandEdit
		}
		add(code, d.keys.Of(agent, f.Key), f.Text)
	}
	for _, f := range v.Expiry {
		add(FaultExpiry, d.keys.Of(agent, f.Key), f.Text)
	}
	want := map[string]string{
		d.keys.Log(agent): "list", d.keys.Quarantine(agent): "list", d.keys.Config(agent): "string",
		d.keys.Profile(agent): "string",
	}
	types, err := d.typesOf(ctx, want)
	for key, is := range types {
		known = true
		if is != want[key] {
			add(FaultBadKey, key, fmt.Sprintf("it is a %s, not a %s", is, want[key]))
		}
	}
	if err != nil {
		return nil, false, false, err
	}
	slices.SortFunc(out, func(a, b Fault) int { return strings.Compare(a.Key, b.Key) })
	return out, known || v.Present, v.Listed, nil
}

// listed says which agents are in the index, and which in the list of breakers that are not closed.
func (d *Docs) listed(ctx context.Context, agents []string) (index, notClosed []bool, err error) {
	for part := range slices.Chunk(agents, chunk) {
		pipe := d.client.Pipeline()
		cmds := make([]*redis.FloatCmd, 0, 2*len(part))
		for _, a := range part {
			cmds = append(cmds, pipe.ZScore(ctx, d.keys.Agents(), a), pipe.ZScore(ctx, d.keys.NotClosed(), a))
		}
		_, _ = pipe.Exec(ctx) // each command keeps its own error
		for i, c := range cmds {
			if err := failed("verify", "", c.Err()); err != nil {
				return nil, nil, err
			}
			if i%2 == 0 {
				index = append(index, c.Err() == nil)
			} else {
				notClosed = append(notClosed, c.Err() == nil)
			}
		}
	}
	return index, notClosed, nil
}

// scanSteps bounds the steps of SCAN that one ScanAgents takes.
const scanSteps = 20

// ScanAgents lists agents that have a :state, a part at a time, whatever the index says; some of them may come twice.
// from is "" at first, then next of the part before; next is "" with the last part. Any other from
// is behind the last part.
func (d *Docs) ScanAgents(ctx context.Context, from string) (agents []string, next string, err error) {
	n, cursor := 0, uint64(0)
	if from != "" {
		number, at, _ := strings.Cut(from, ".")
		master, bad := strconv.Atoi(number)
		place, bad2 := strconv.ParseUint(at, 10, 64)
		if n, cursor = master, place; bad != nil || bad2 != nil {
			n = -1
		}
	}
	masters, err := d.masters(ctx)
	if err != nil {
		return nil, "", redisstore.WrapError("verify", "", err)
	}
	for range scanSteps {
		if n < 0 || n >= len(masters) {
			return agents, "", nil
		}
		var keys []string
		if keys, cursor, err = masters[n].Scan(ctx, cursor, d.keys.StatePattern(), chunk).Result(); err != nil {
			return nil, "", redisstore.WrapError("verify", "", err)
		}
		for _, key := range keys {
			if a := d.keys.AgentOf(key); breaker.ValidName(a) {
				agents = append(agents, a)
			}
		}
		if cursor == 0 {
			n++
		}
	}
	return agents, strconv.Itoa(n) + "." + strconv.FormatUint(cursor, 10), nil
}
