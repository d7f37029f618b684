package redisdocs

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const knownFor = 30 * 24 * time.Hour // since an agent was last seen

// MarkSeen marks agents as seen now, in the index. It is called in the background, not once a call.
func (d *Docs) MarkSeen(ctx context.Context, agents []string) error {
	now, err := d.client.Time(ctx).Result()
	if err == nil {
		err = d.addToIndex(ctx, agents, now, redis.ZAddArgs{})
	}
	return failed("index", "", err)
}

// SeenWithin is the number of agents that were seen within a time.
func (d *Docs) SeenWithin(ctx context.Context, within time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	n, err := d.client.ZCount(ctx, d.keys.Agents(), ago(within), "+inf").Result()
	return int(n), failed("index", "", err)
}

// AgentsWithin lists the agents that were seen within a time, the newest first. A name that no breaker can have was
// planted, and is left out.
func (d *Docs) AgentsWithin(ctx context.Context, within time.Duration) ([]string, error) {
	names, err := d.client.ZRangeByScore(ctx, d.keys.Agents(), &redis.ZRangeBy{Min: ago(within), Max: "+inf"}).Result()
	names = slices.DeleteFunc(names, func(n string) bool { return !breaker.ValidName(n) })
	slices.Reverse(names)
	return names, failed("list", "", err)
}

// ago is the score of an agent that was seen so long ago.
func ago(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }

// Trim takes agents out of the index until it has no more than Config.MaxAgents, the one seen longest ago first. It
// keeps what is not closed or held, what has an override or a profile, and what is important.
func (d *Docs) Trim(ctx context.Context, important func(agent string) bool) error {
	n, err := d.client.ZCard(ctx, d.keys.Agents()).Result()
	for kept, over := int64(0), n-int64(d.config.MaxAgents); err == nil && over > 0; {
		var oldest, gone []string
		oldest, err = d.client.ZRange(ctx, d.keys.Agents(), kept, kept+chunk-1).Result()
		if err != nil || len(oldest) == 0 {
			break
		}
		if gone, err = d.expendable(ctx, oldest, important); err != nil {
			break
		}
		gone = gone[:min(int64(len(gone)), over)]
		if len(gone) > 0 {
			err = d.client.ZRem(ctx, d.keys.Agents(), anySlice(gone)...).Err()
		}
		over -= int64(len(gone))
		kept += int64(len(oldest) - len(gone))
	}
	return failed("trim index", "", err)
}

// expendable returns those of the agents that the index need not have.
func (d *Docs) expendable(ctx context.Context, agents []string, important func(string) bool) ([]string, error) {
	pipe := d.client.Pipeline()
	documents, notClosed := make([]*redis.IntCmd, len(agents)), make([]*redis.FloatCmd, len(agents))
	for i, a := range agents {
		documents[i] = pipe.Exists(ctx, d.keys.Config(a), d.keys.Profile(a))
		notClosed[i] = pipe.ZScore(ctx, d.keys.NotClosed(), a)
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	var out []string
	for i, a := range agents {
		if err := errors.Join(failed("index", a, documents[i].Err()), failed("index", a, notClosed[i].Err())); err != nil {
			return nil, err
		}
		if documents[i].Val() == 0 && notClosed[i].Err() != nil && !important(a) {
			out = append(out, a)
		}
	}
	return out, nil
}

func anySlice(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

func (d *Docs) addToIndex(ctx context.Context, agents []string, seen time.Time, how redis.ZAddArgs) error {
	for part := range slices.Chunk(agents, chunk) {
		how.Members = make([]redis.Z, len(part))
		for i, a := range part {
			how.Members[i] = redis.Z{Score: float64(seen.Unix()), Member: a}
		}
		err := d.write(ctx, d.keys.Agents(), func() error { return d.client.ZAddArgs(ctx, d.keys.Agents(), how).Err() })
		if err != nil {
			return err
		}
	}
	return nil
}

// Agents lists the agents in the index, by name. A name that no breaker can have was planted, and is left out.
func (d *Docs) Agents(ctx context.Context) ([]string, error) {
	names, err := d.client.ZRange(ctx, d.keys.Agents(), 0, -1).Result()
	names = slices.DeleteFunc(names, func(n string) bool { return !breaker.ValidName(n) })
	slices.Sort(names)
	return names, failed("list", "", err)
}

// Seen is when an agent was last seen; the zero time when the index does not know it.
func (d *Docs) Seen(ctx context.Context, agent string) (time.Time, error) {
	score, err := d.client.ZScore(ctx, d.keys.Agents(), agent).Result()
	if err != nil {
		return time.Time{}, failed("look up", agent, err)
	}
	return time.Unix(int64(score), 0).UTC(), nil
}

// EachSeen is Seen of many agents, in order, in one round trip.
func (d *Docs) EachSeen(ctx context.Context, agents []string) ([]time.Time, error) {
	pipe := d.client.Pipeline()
	scores := make([]*redis.FloatCmd, len(agents))
	for i, a := range agents {
		scores[i] = pipe.ZScore(ctx, d.keys.Agents(), a)
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	seen := make([]time.Time, len(agents))
	for i, score := range scores {
		if err := failed("look up", agents[i], score.Err()); err != nil {
			return nil, err
		}
		if score.Err() == nil {
			seen[i] = time.Unix(int64(score.Val()), 0).UTC()
		}
	}
	return seen, nil
}

// Known says whether an agent has a profile or an override, has keys, or was seen within 30 days.
func (d *Docs) Known(ctx context.Context, agent string) (bool, error) {
	pipe := d.client.Pipeline()
	n := pipe.Exists(ctx, d.keysOf(agent)...)
	seen := pipe.ZScore(ctx, d.keys.Agents(), agent)
	_, _ = pipe.Exec(ctx)
	if err := failed("look up", agent, n.Err()); err != nil {
		return false, err
	}
	score, err := seen.Result()
	return n.Val() > 0 || err == nil && time.Unix(int64(score), 0).Add(knownFor).After(time.Now()), nil
}

// keysOf are the keys for which an agent is known.
func (d *Docs) keysOf(agent string) []string {
	return append(d.keys.Machine(agent), d.keys.Config(agent), d.keys.Profile(agent))
}

// States reads many agents' :state as it stands, in order; "" where there is none. A breaker whose wait is over may
// still say open [B11].
func (d *Docs) States(ctx context.Context, agents []string) ([]breaker.State, error) {
	texts, err := d.getAll(ctx, "read state", agents, func(a string) string { return d.keys.Machine(a)[0] })
	out := make([]breaker.State, len(texts))
	for i, t := range texts {
		out[i], _ = machine.ParseState(t)
	}
	return out, err
}

// Repair puts every agent that has a :state into the index, at most so many, and takes out those unseen for 30 days
// that have nothing left. It SCANs, so it is for a background task.
func (d *Docs) Repair(ctx context.Context, most int) error {
	found, err := d.scanAgents(ctx, most)
	if err == nil {
		err = d.addToIndex(ctx, found, time.Now(), redis.ZAddArgs{NX: true})
	}
	if err == nil {
		err = d.dropStale(ctx)
	}
	return failed("repair index", "", err)
}

// dropStale takes agents out of the index that were not seen for 30 days and have nothing left.
func (d *Docs) dropStale(ctx context.Context) error {
	old := ago(knownFor)
	for kept := int64(0); ; {
		unseen := &redis.ZRangeBy{Min: "-inf", Max: "(" + old, Offset: kept, Count: chunk}
		stale, err := d.client.ZRangeByScore(ctx, d.keys.Agents(), unseen).Result()
		if err != nil {
			return err
		}
		for _, a := range stale {
			n, err := d.client.Exists(ctx, d.keysOf(a)...).Result()
			if err != nil || n > 0 || d.client.ZRem(ctx, d.keys.Agents(), a).Err() != nil {
				kept++ // tried again next time
			}
		}
		if len(stale) < chunk {
			return nil
		}
	}
}

func (d *Docs) scanAgents(ctx context.Context, most int) ([]string, error) {
	masters, err := d.masters(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range masters {
		it := m.Scan(ctx, 0, d.keys.StatePattern(), chunk).Iterator()
		for it.Next(ctx) && len(out) < most {
			if a := d.keys.AgentOf(it.Val()); breaker.ValidName(a) {
				out = append(out, a)
			}
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// masters are the servers that have keys, in the order of their addresses.
func (d *Docs) masters(ctx context.Context) ([]redis.Cmdable, error) {
	cluster, ok := d.client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{d.client}, nil
	}
	var mu sync.Mutex // ForEachMaster calls for all of them at once
	var nodes []*redis.Client
	err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, c)
		return nil
	})
	slices.SortFunc(nodes, func(a, b *redis.Client) int { return strings.Compare(a.Options().Addr, b.Options().Addr) })
	out := make([]redis.Cmdable, len(nodes))
	for i, n := range nodes {
		out[i] = n
	}
	return out, err
}
