package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Verified is what the keys of one agent's breaker are found to be.
type Verified struct {
	Faults  []machine.Fault
	Expiry  []machine.Fault // keys that do not expire when all of the breaker's should [B25]
	Present bool            // the keys hold a breaker
	Listed  bool            // NotClosed should have the agent
}

// expirySlack is by how much an expiry may differ, which is read after the keys.
const expirySlack = 2 * time.Second

// Verify reads the keys of an agent's breaker, and says what its next verb would repair. It changes nothing. It is for
// authors of replicas.
func (s *Store) Verify(ctx context.Context, agent string) (v Verified, err error) {
	raw, nowMs, err := s.read(ctx, agent)
	if err != nil {
		return v, err
	}
	v.Faults = machine.Faults(raw)
	l := machine.Load(raw)
	ended := l.Hold.LengthMs > 0 && l.Hold.StartMs+l.Hold.LengthMs <= nowMs
	v.Present = l.Present || l.Edit.To != ""
	v.Listed = l.Present && len(v.Faults) == 0 && (l.State != machine.Closed || l.Hold.Kind != "" && !ended)
	if l.Present && len(v.Faults) == 0 { // else the next verb sets the expiry anew
		v.Expiry, err = s.expiries(ctx, agent, l.ExpiresMs, nowMs)
	}
	return v, err
}

// expiries finds keys that do not expire at a time; 0: never.
func (s *Store) expiries(ctx context.Context, agent string, expiresMs, nowMs int64) (out []machine.Fault, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	names := []string{"state", "open_timestamp", "calls", "control", "probes"}
	pipe := s.client.Pipeline()
	left := make([]*redis.DurationCmd, len(names))
	for i, key := range s.keys.Machine(agent)[:len(names)] {
		left[i] = pipe.PTTL(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, WrapError("inspect", agent, err)
	}
	const absent, endless = time.Duration(-2), time.Duration(-1)
	for i, name := range names {
		switch ttl := left[i].Val(); {
		case ttl == absent, ttl == endless && expiresMs == 0:
		case ttl == endless:
			out = append(out, machine.Fault{Key: name, Text: "it never expires, and control says that it does"})
		case expiresMs == 0:
			out = append(out, machine.Fault{Key: name, Text: "it expires, and a hold without end should keep it"})
		case time.Duration(nowMs+ttl.Milliseconds()-expiresMs)*time.Millisecond > expirySlack,
			time.Duration(expiresMs-nowMs-ttl.Milliseconds())*time.Millisecond > expirySlack:
			out = append(out, machine.Fault{Key: name, Text: "it does not expire when control says"})
		}
	}
	return out, nil
}
