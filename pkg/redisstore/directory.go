package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// ErrConflict says that another hand changed the document first.
var ErrConflict = errors.New("the document changed meanwhile")

// AnyVersion as the expected text of a document lets a write happen whatever stands there.
const AnyVersion = "*"

const (
	quarantineKept  = 50             // newest items of an agent
	quarantineLives = 24 * time.Hour // since the newest
	knownFor        = 30 * 24 * time.Hour
	chunk           = 500 // commands a pipeline, members a SCAN step
)

// Doc is one of an agent's two documents: its policy override or its profile.
type Doc string

// The documents.
const (
	ConfigDoc  Doc = "config"
	ProfileDoc Doc = "profile"
)

func (s *Store) docKey(d Doc, agent string) string {
	if d == ConfigDoc {
		return s.keys.Config(agent)
	}
	return s.keys.Profile(agent)
}

// Document reads an agent's document; "" when there is none.
func (s *Store) Document(ctx context.Context, d Doc, agent string) (string, error) {
	text, err := s.client.Get(ctx, s.docKey(d, agent)).Result()
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "WRONGTYPE"): // a planted key is no document
		return "", nil
	}
	return "", storeError(machine.Verb("read "+string(d)), agent, err)
}

// Documents reads many agents' documents at once, in order; "" where there is none.
func (s *Store) Documents(ctx context.Context, d Doc, agents []string) ([]string, error) {
	keys := make([]string, len(agents))
	for i, a := range agents {
		keys[i] = s.docKey(d, a)
	}
	return s.getAll(ctx, "read "+string(d), keys)
}

// States reads many agents' :state as it stands, in order; "" where there is none. A breaker whose wait is over may still
// say open [B11].
func (s *Store) States(ctx context.Context, agents []string) ([]breaker.State, error) {
	keys := make([]string, len(agents))
	for i, a := range agents {
		keys[i] = s.keys.Machine(a)[0]
	}
	texts, err := s.getAll(ctx, "read state", keys)
	out := make([]breaker.State, len(texts))
	for i, t := range texts {
		out[i], _ = machine.ParseState(t)
	}
	return out, err
}

func (s *Store) getAll(ctx context.Context, what string, keys []string) ([]string, error) {
	out := make([]string, 0, len(keys))
	for part := range slices.Chunk(keys, chunk) {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.StringCmd, len(part))
		for i, k := range part {
			cmds[i] = pipe.Get(ctx, k)
		}
		_, _ = pipe.Exec(ctx) // each command keeps its own error
		for _, c := range cmds {
			text, err := c.Result()
			if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
				return nil, storeError(machine.Verb(what), "", err)
			}
			out = append(out, text)
		}
	}
	return out, nil
}

// PutDocument writes a document ("" deletes it) if it still holds expected (AnyVersion: whatever it holds), and logs who did it.
// ErrConflict: it does not.
func (s *Store) PutDocument(ctx context.Context, d Doc, agent, expected, text, actor string) error {
	if text != "" {
		if err := s.MarkSeen(ctx, []string{agent}); err != nil {
			return err
		}
	}
	reply, err := s.script(ctx, "configure", s.configureKeys(d, agent), []any{
		s.nowMs(), s.keys.Events() + " " + agent, s.ttl.Milliseconds(),
		expected, text, actor, string(d) + " " + putWord(text),
	})
	if err != nil {
		return storeError("configure", agent, err)
	}
	in := &reader{items: reply}
	if in.number() != 1 {
		return fmt.Errorf("%s of agent %q: %w", d, agent, ErrConflict)
	}
	s.tellLine(ctx, agent, in.text())
	return nil
}

func (s *Store) configureKeys(d Doc, agent string) []string {
	keys := []string{s.docKey(d, agent), s.keys.Log(agent)}
	if !s.keys.Cluster {
		keys = append(keys, s.keys.Stream(), s.keys.Audit())
	}
	return keys
}

func putWord(text string) string {
	if text == "" {
		return "deleted"
	}
	return "set"
}

// Forget deletes everything kept of an agent. breaker.ErrHoldProtected: a protected hold stands and force is not given.
func (s *Store) Forget(ctx context.Context, agent, actor string, force bool) error {
	keys := append(s.keys.Machine(agent), s.keys.Quarantine(agent), s.keys.Config(agent), s.keys.Profile(agent))
	reply, err := s.script(ctx, "forget", s.keys.withFleet(keys), []any{s.nowMs(), s.keys.Events() + " " + agent, bit(force), actor})
	if err != nil {
		return storeError("forget", agent, err)
	}
	in := &reader{items: reply}
	if in.number() < 0 {
		return fmt.Errorf("agent %q: %w", agent, breaker.ErrHoldProtected)
	}
	s.tellLine(ctx, agent, in.text())
	if err := s.client.ZRem(ctx, s.keys.Agents(), agent).Err(); err != nil {
		return storeError("forget", agent, err)
	}
	return nil
}

// MarkSeen marks agents as seen now, in the index. It is called in the background, not once a call.
func (s *Store) MarkSeen(ctx context.Context, agents []string) error {
	now, err := s.client.Time(ctx).Result()
	if err != nil {
		return storeError("index", "", err)
	}
	for part := range slices.Chunk(agents, chunk) {
		z := make([]redis.Z, len(part))
		for i, a := range part {
			z[i] = redis.Z{Score: float64(now.Unix()), Member: a}
		}
		err := s.mended(ctx, s.keys.Agents(), func() error { return s.client.ZAdd(ctx, s.keys.Agents(), z...).Err() })
		if err != nil {
			return storeError("index", "", err)
		}
	}
	if err := s.client.ZRemRangeByRank(ctx, s.keys.Agents(), 0, -int64(s.maxAgents)-1).Err(); err != nil {
		return storeError("index", "", err)
	}
	return nil
}

// mended writes to a key; one of the wrong type was planted, and makes room [B20].
func (s *Store) mended(ctx context.Context, key string, write func() error) error {
	err := write()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		_ = s.client.Unlink(ctx, key).Err() // the next line tells if that failed
		err = write()
	}
	return err
}

// Agents lists the agents in the index, by name. Names that no breaker of ours can have are left out.
func (s *Store) Agents(ctx context.Context) ([]string, error) {
	names, err := s.client.ZRange(ctx, s.keys.Agents(), 0, -1).Result()
	if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, storeError("list", "", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !breaker.ValidName(n) })
	slices.Sort(names)
	return names, nil
}

// Known says whether an agent has a profile or an override, has keys, or was seen within 30 days.
func (s *Store) Known(ctx context.Context, agent string) (bool, error) {
	pipe := s.client.Pipeline()
	keys := append(s.keys.Machine(agent), s.keys.Config(agent), s.keys.Profile(agent))
	n := pipe.Exists(ctx, keys...)
	seen := pipe.ZScore(ctx, s.keys.Agents(), agent)
	_, _ = pipe.Exec(ctx)
	if err := n.Err(); err != nil {
		return false, storeError("look up", agent, err)
	}
	score, err := seen.Result()
	return n.Val() > 0 || err == nil && time.Unix(int64(score), 0).Add(knownFor).After(time.Now()), nil
}

// Repair puts every agent that has a :state into the index, and takes out those unseen for 30 days that have nothing left.
// most bounds how many it holds. It SCANs, so it is for a background task.
func (s *Store) Repair(ctx context.Context, most int) error {
	found, err := s.scanAgents(ctx, most)
	if err != nil {
		return storeError("repair index", "", err)
	}
	for part := range slices.Chunk(found, chunk) {
		z := make([]redis.Z, len(part))
		for i, a := range part {
			z[i] = redis.Z{Score: float64(time.Now().Unix()), Member: a}
		}
		err := s.mended(ctx, s.keys.Agents(), func() error { return s.client.ZAddNX(ctx, s.keys.Agents(), z...).Err() })
		if err != nil {
			return storeError("repair index", "", err)
		}
	}
	return s.forgetStale(ctx)
}

// forgetStale takes those out of the index who were not seen for 30 days and have nothing left.
func (s *Store) forgetStale(ctx context.Context) error {
	old := strconv.FormatInt(time.Now().Add(-knownFor).Unix(), 10)
	for kept := int64(0); ; {
		stale, err := s.client.ZRangeByScore(ctx, s.keys.Agents(), &redis.ZRangeBy{Min: "-inf", Max: "(" + old, Offset: kept, Count: chunk}).Result()
		if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return storeError("repair index", "", err)
		}
		for _, a := range stale {
			n, err := s.client.Exists(ctx, append(s.keys.Machine(a), s.keys.Config(a), s.keys.Profile(a))...).Result()
			if err != nil || n > 0 || s.client.ZRem(ctx, s.keys.Agents(), a).Err() != nil {
				kept++ // tried again next time
			}
		}
		if len(stale) < chunk {
			return nil
		}
	}
}

func (s *Store) scanAgents(ctx context.Context, most int) ([]string, error) {
	var out []string
	scan := func(ctx context.Context, c redis.Cmdable) error {
		it := c.Scan(ctx, 0, s.keys.StatePattern(), chunk).Iterator()
		for it.Next(ctx) && len(out) < most {
			if a := s.keys.AgentOf(it.Val()); breaker.ValidName(a) {
				out = append(out, a)
			}
		}
		return it.Err()
	}
	if cc, ok := s.client.(*redis.ClusterClient); ok {
		var nodes []*redis.Client // ForEachMaster runs at once; SCAN one after the other
		if err := cc.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			s.scanMu.Lock()
			defer s.scanMu.Unlock()
			nodes = append(nodes, c)
			return nil
		}); err != nil {
			return nil, err
		}
		for _, c := range nodes {
			if err := scan(ctx, c); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return out, scan(ctx, s.client)
}

// PushQuarantine adds one item, JSON, to an agent's newest failed and refused calls.
func (s *Store) PushQuarantine(ctx context.Context, agent, item string) error {
	key := s.keys.Quarantine(agent)
	push := func() error {
		pipe := s.client.TxPipeline()
		pipe.LPush(ctx, key, item)
		pipe.LTrim(ctx, key, 0, quarantineKept-1)
		pipe.Expire(ctx, key, quarantineLives)
		_, err := pipe.Exec(ctx)
		return err
	}
	if err := s.mended(ctx, key, push); err != nil {
		return storeError("quarantine", agent, err)
	}
	return nil
}

// Quarantine reads an agent's newest failed and refused calls, newest first, as JSON texts.
func (s *Store) Quarantine(ctx context.Context, agent string) ([]string, error) {
	items, err := s.client.LRange(ctx, s.keys.Quarantine(agent), 0, quarantineKept-1).Result()
	if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, storeError("quarantine", agent, err)
	}
	return items, nil
}

// Events calls tell for each transition, heal and manual action, from this replica or another, until ctx ends. It reconnects by
// itself; what was said meanwhile is lost, so it is a hint beside a poll. For a Manager in cached mode, tell calls its Invalidate.
func (s *Store) Events(ctx context.Context, tell func(agent string, e breaker.Event)) {
	sub := s.client.Subscribe(ctx, s.keys.Events())
	defer func() { _ = sub.Close() }()
	in := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case m, ok := <-in:
			if !ok {
				return
			}
			agent, line, _ := strings.Cut(m.Payload, " ") // "agent at_ms kind …"
			if e, ok := machine.ParseEvent(line); ok && breaker.ValidName(agent) {
				tell(agent, e)
			}
		}
	}
}

// Seen is when an agent was last seen; the zero time when the index does not know it.
func (s *Store) Seen(ctx context.Context, agent string) (time.Time, error) {
	score, err := s.client.ZScore(ctx, s.keys.Agents(), agent).Result()
	switch {
	case err == nil:
		return time.Unix(int64(score), 0).UTC(), nil
	case errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "WRONGTYPE"):
		return time.Time{}, nil
	}
	return time.Time{}, storeError("look up", agent, err)
}
