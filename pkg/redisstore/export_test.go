package redisstore

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Rounds is how often a test does something: fewer times with -short, which is for the loop of somebody who edits.
func Rounds(all, short int) int {
	if testing.Short() {
		return short
	}
	return all
}

// SetNow makes the store's clock an argument of the test, and lets each operation bring its own shift.
func (s *Store) SetNow(nowMs func() int64) {
	s.nowMs, s.shifted = func() string { return strconv.FormatInt(nowMs(), 10) }, true
}

// SetHistory changes what Config.History said.
func (s *Store) SetHistory(minutes int) {
	s.history = int64(minutes)
	s.agents = newAgents(s.keys, 1) // the entries have policies packed with the old one
}

// Raw reads the keys as inspect does.
func (s *Store) Raw(ctx context.Context, agent string) (machine.Raw, error) {
	reply, err := s.script(ctx, "inspect", s.keys.Machine(agent), []any{s.nowMs()})
	if err != nil {
		return machine.Raw{}, err
	}
	raw, _, err := parseRaw(reply)
	return raw, err
}

// ApplyBeside carries out op, a record that may be joined with others, together with one of another agent: both in the
// script records, as far as that can be. ok is false, and nothing done, for any other op; otherShort says that records
// has counted the other one.
func (s *Store) ApplyBeside(ctx context.Context, agent string, p breaker.Policy, op machine.Op, other string, otherOp machine.Op) (
	got, otherGot machine.Result, ok, otherShort bool, err error,
) {
	a, b := s.callOf(s.agents.of(agent), &p, &op), s.callOf(s.agents.of(other), &p, &otherOp)
	if a.share != shareRecord || a.hint == nil || b.hint == nil {
		return got, otherGot, false, false, nil
	}
	a.hint.Store(true)
	b.hint.Store(true)
	s.send(ctx, &roundTrip{calls: []*call{a, b}})
	if err := errors.Join(a.err, b.err); err != nil {
		return got, otherGot, true, false, err
	}
	return a.result, b.result, true, b.short, nil
}

// Claim is Born; created says that this call wrote the identity.
func (s *Store) Claim(ctx context.Context) (id string, created bool, err error) { return s.claim(ctx) }

// SlotOf is the slot of a hash tag.
func SlotOf(tag string) int64 { return slotOf(tag) }

// MaxBorn is how many keys may be tried for the identities of a Cluster's masters.
const MaxBorn = maxBorn
