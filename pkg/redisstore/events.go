package redisstore

import (
	"context"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// The kinds of events that are not the machine's. Of all but [EventEvidence] and [EventHoldEndsSoon] the agent is "-".
const (
	EventStoreReset    = "store_reset"    // Redis has lost its data
	EventGate          = "gate"           // somebody changed the fleet gate, or it ended by itself [B24]
	EventAction        = "action"         // somebody asked for an action on many agents
	EventReplicaJoined = "replica_joined" // a replica has started
	EventReplicaLeft   = "replica_left"   // a replica has ended in order
	EventReplicaGone   = "replica_gone"   // a replica is silent, and has not said that it ends
	EventWorkflow      = "workflow"       // somebody changed a workflow
	EventRestore       = "restore"        // somebody restored a backup
	EventEvidence      = "evidence"       // a replica says what it reported of the window that opened a breaker [B23]
	EventHoldEndsSoon  = "hold_ends_soon" // a hold will end in ten minutes [B17]
)

// noAgent stands in the place of the agent in an event that is no agent's. No agent can have this name.
const noAgent = "-"

// Announce tells all replicas, and the stream, of an event that is no agent's: kind is one of the constants Event…,
// actor a word, "-" if nobody did it, text anything. What a person did, manual, is in the audit too. It is for authors
// of replicas: package fleet calls it.
//
// Announce is not sent again by itself. After an error the event may have been written or not.
func (s *Store) Announce(ctx context.Context, kind, actor, text string, manual bool) error {
	return s.announce(ctx, noAgent, machine.Event{
		Kind: kind, Epoch: machine.ZeroEpoch, Actor: actor, Address: breaker.AddressOf(ctx), Text: oneLine(text),
	}, manual)
}

// AnnounceEvidence tells what a replica, the reporter, has reported of an agent's window, after the agent's breaker has
// opened [B23]. epoch is that of the opening.
func (s *Store) AnnounceEvidence(ctx context.Context, agent, epoch, reporter string, failures, calls int64) error {
	return s.announce(ctx, agent, machine.Event{
		Kind: EventEvidence, Epoch: epoch, Actor: reporter, Failures: failures, Calls: calls,
	}, false)
}

// AnnounceHoldEnds tells that a breaker's hold will end soon [B17]. state is that of the breaker, text says whose hold.
func (s *Store) AnnounceHoldEnds(ctx context.Context, agent, epoch string, state machine.State, text string) error {
	return s.announce(ctx, agent, machine.Event{
		Kind: EventHoldEndsSoon, From: state, To: state, Epoch: epoch, Actor: "-", Text: oneLine(text),
	}, false)
}

// announce writes an event that no script writes, of Redis' time.
func (s *Store) announce(ctx context.Context, agent string, e machine.Event, manual bool) error {
	now, err := s.client.Time(ctx).Result()
	if err != nil {
		return WrapError(machine.Verb(e.Kind), "", err)
	}
	e.AtMs = now.UnixMilli()
	line := e.String()
	streams := []string{s.keys.Stream()}
	if manual {
		streams = append(streams, s.keys.Audit())
	}
	pipe := s.client.Pipeline()
	added := make([]*redis.StringCmd, len(streams))
	for i, stream := range streams {
		added[i] = s.addTo(ctx, pipe, stream, agent, line)
	}
	published := pipe.Publish(ctx, s.keys.Events(), agent+" "+line)
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, stream := range streams {
		err := added[i].Err()
		if redis.HasErrorPrefix(err, "WRONGTYPE") { // planted [B20]
			_ = s.client.Unlink(ctx, stream).Err() // the next line tells if that failed
			err = s.addTo(ctx, s.client, stream, agent, line).Err()
		}
		if err != nil {
			return WrapError(machine.Verb(e.Kind), "", err)
		}
	}
	if err := published.Err(); err != nil {
		return WrapError(machine.Verb(e.Kind), "", err)
	}
	return nil
}

// oneLine replaces what would end the line of an event.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// Events calls handle for each transition, repair and manual action of any replica, until ctx ends, and for each event
// that is no agent's, whose agent is "-". It reconnects by itself. What is published meanwhile is lost, so a caller
// that must know polls besides, or calls [Store.Follow], which is slower and loses nothing. In cached mode, handle
// calls the Manager's Invalidate.
func (s *Store) Events(ctx context.Context, handle func(agent string, e breaker.Event)) {
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
			if agent, e, ok := parsePush(m.Payload); ok {
				handle(agent, e)
			}
		}
	}
}

// The lengths at which the fleet's streams are trimmed, give or take a node; lua/events.lua has the same.
const (
	maxStream = 10_000
	maxAudit  = 100_000
)

// writeFleet writes what a script cannot on a Cluster, where the fleet's keys have other slots than the agent's: events
// go to the streams, and the agent to the index of breakers that are not closed. What fails here is missing there; the
// agent's log has it.
func (s *Store) writeFleet(ctx context.Context, agent string, r machine.Result) {
	ctx, cancel := earlier(ctx, s.dispatch.limit.context())
	defer cancel()
	pipe := s.client.Pipeline()
	for _, e := range r.Events {
		s.addToStreams(ctx, pipe, agent, e.String(), e.Manual())
	}
	if r.State != machine.Closed || r.Hold != "" {
		pipe.ZAdd(ctx, s.keys.NotClosed(), redis.Z{Score: float64(r.NowMs), Member: agent})
	} else {
		pipe.ZRem(ctx, s.keys.NotClosed(), agent)
	}
	_, _ = pipe.Exec(ctx)
}

// writeManual is writeFleet for what somebody did to an agent's documents, or to all its keys. line is the event.
func (s *Store) writeManual(ctx context.Context, agent, line string) {
	e, ok := machine.ParseEvent(line)
	if !s.keys.Cluster || !ok {
		return
	}
	pipe := s.client.Pipeline()
	s.addToStreams(ctx, pipe, agent, line, true)
	if e.Kind == machine.EventForgotten {
		pipe.ZRem(ctx, s.keys.NotClosed(), agent)
	}
	_, _ = pipe.Exec(ctx)
}

func (s *Store) addToStreams(ctx context.Context, pipe redis.Pipeliner, agent, line string, manual bool) {
	s.addTo(ctx, pipe, s.keys.Stream(), agent, line)
	if manual {
		s.addTo(ctx, pipe, s.keys.Audit(), agent, line)
	}
}

func (s *Store) addTo(ctx context.Context, c redis.Cmdable, stream, agent, line string) *redis.StringCmd {
	length := int64(maxStream)
	if stream == s.keys.Audit() {
		length = maxAudit
	}
	values := []any{"agent", agent, "event", line}
	return c.XAdd(ctx, &redis.XAddArgs{Stream: stream, MaxLen: length, Approx: true, Values: values})
}
