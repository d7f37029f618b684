package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// ErrConflict is what [Store.Configure] returns, wrapped, when somebody else has changed a document.
var ErrConflict = errors.New("the document changed meanwhile")

// AnyVersion as the expected text of a [Document] lets the write happen whatever the document holds.
const AnyVersion = "*"

// Change replaces some of an agent's documents: all of them, or none.
type Change struct {
	Documents []Document
	Actor     string // who changes them
	Detail    string // what the event says of the change, on one line; "": nothing
}

// Document is one of an agent's documents, and what becomes of it.
type Document struct {
	Key      string // where it is; on a Cluster in the agent's slot
	Name     string // what the event calls it, config for instance
	Expected string // what it must hold now, "" for a document that is not there; or AnyVersion
	Text     string // what it shall hold; "" deletes it
}

// Configure changes documents if each holds what is expected, and writes one event that says who did it. It is for
// authors of what keeps agents' documents beside a Store.
func (s *Store) Configure(ctx context.Context, agent string, c Change) error {
	var keys, did, names []string
	var texts []any
	for _, d := range c.Documents {
		what := " set"
		if d.Text == "" {
			what = " deleted"
		}
		keys, names = append(keys, d.Key), append(names, d.Name)
		did, texts = append(did, d.Name+what), append(texts, d.Expected, d.Text)
	}
	keys = append(keys, s.keys.Log(agent))
	if !s.keys.Cluster {
		keys = append(keys, s.keys.Stream(), s.keys.Audit())
	}
	what := strings.Join(did, ", ")
	if c.Detail != "" {
		what += " " + oneLine(c.Detail)
	}
	what = machine.Addressed(c.Actor, breaker.AddressOf(ctx), what)
	reply, err := s.script(ctx, "configure", keys, append([]any{
		s.nowMs(), s.keys.Events() + " " + agent, s.ttl.Milliseconds(), c.Actor, what,
	}, texts...))
	if err != nil {
		return WrapError("configure", agent, err)
	}
	in := &reader{items: reply}
	if in.number() != 1 {
		return fmt.Errorf("%s of agent %q: %w", strings.Join(names, ", "), agent, ErrConflict)
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
