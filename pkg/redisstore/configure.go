package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// ErrConflict is what [Store.Configure] returns, wrapped, when somebody else has changed the document.
var ErrConflict = errors.New("the document changed meanwhile")

// AnyVersion as the expected text of a [Change] lets the write happen whatever the document holds.
const AnyVersion = "*"

// Change replaces one of an agent's documents.
type Change struct {
	Key      string // where the document is; on a Cluster in the agent's slot
	Name     string // what the event calls it, config for instance
	Expected string // what it must hold now, "" for a document that is not there; or AnyVersion
	Text     string // what it shall hold; "" deletes it
	Actor    string // who changes it
	Detail   string // what the event says of the change, on one line; "": nothing
}

// Configure changes a document if it holds what is expected, and writes an event that says who did it. It is for
// authors of what keeps agents' documents beside a Store.
func (s *Store) Configure(ctx context.Context, agent string, c Change) error {
	keys := []string{c.Key, s.keys.Log(agent)}
	if !s.keys.Cluster {
		keys = append(keys, s.keys.Stream(), s.keys.Audit())
	}
	what := c.Name + " set"
	if c.Text == "" {
		what = c.Name + " deleted"
	}
	if c.Detail != "" {
		what += " " + oneLine(c.Detail)
	}
	what = machine.Addressed(c.Actor, breaker.AddressOf(ctx), what)
	reply, err := s.script(ctx, "configure", keys, []any{
		s.nowMs(), s.keys.Events() + " " + agent, s.ttl.Milliseconds(), c.Expected, c.Text, c.Actor, what,
	})
	if err != nil {
		return WrapError("configure", agent, err)
	}
	in := &reader{items: reply}
	if in.number() != 1 {
		return fmt.Errorf("%s of agent %q: %w", c.Name, agent, ErrConflict)
	}
	s.changed(ctx, agent, in.text())
	return nil
}

// changed tells of an event of an agent's documents, or of all its keys.
func (s *Store) changed(ctx context.Context, agent, line string) {
	s.writeManual(ctx, agent, line)
	if e, ok := machine.ParseEvent(line); ok {
		s.onEvent(agent, e)
	}
}

// Forget deletes all keys of an agent, for actor. The error is breaker.ErrHoldProtected if the agent has a protected
// hold and force is not given, or a [*breaker.StoreError]. It is for authors of replicas, which also drop what they
// keep of the agent in memory.
func (s *Store) Forget(ctx context.Context, agent, actor string, force bool) error {
	keys := append(s.keys.Machine(agent), s.keys.Quarantine(agent), s.keys.Config(agent), s.keys.Profile(agent))
	reply, err := s.script(ctx, "forget", s.keys.withFleet(keys), []any{
		s.nowMs(), s.keys.Events() + " " + agent, bit(force), actor,
		machine.Addressed(actor, breaker.AddressOf(ctx), "all keys deleted"),
	})
	if err != nil {
		return WrapError("forget", agent, err)
	}
	in := &reader{items: reply}
	if in.number() < 0 {
		return fmt.Errorf("agent %q: %w", agent, breaker.ErrHoldProtected)
	}
	s.changed(ctx, agent, in.text())
	if err := s.client.ZRem(ctx, s.keys.Agents(), agent).Err(); err != nil {
		return WrapError("forget", agent, err)
	}
	return nil
}
