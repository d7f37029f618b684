package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// EventStoreReset is the kind of the event that [Store.AnnounceReset] tells. Its agent is "-".
const EventStoreReset = "store_reset"

// noAgent stands in the place of the agent in an event that is no agent's. No agent can have this name.
const noAgent = "-"

// AnnounceReset tells all replicas, and the stream, that Redis has lost its data. It is for authors of replicas:
// package fleet calls it.
func (s *Store) AnnounceReset(ctx context.Context, text string) error {
	now, err := s.client.Time(ctx).Result()
	if err != nil {
		return WrapError(EventStoreReset, "", err)
	}
	line := machine.Event{
		AtMs: now.UnixMilli(), Kind: EventStoreReset, Epoch: machine.ZeroEpoch, Actor: "-", Text: text,
	}.String()
	tell := func() error {
		pipe := s.client.Pipeline()
		s.addToStreams(ctx, pipe, noAgent, line, false)
		pipe.Publish(ctx, s.keys.Events(), noAgent+" "+line)
		_, err := pipe.Exec(ctx)
		return err
	}
	err = tell()
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // planted [B20]
		_ = s.client.Unlink(ctx, s.keys.Stream()).Err() // the next line tells if that failed
		err = tell()
	}
	if err != nil {
		return WrapError(EventStoreReset, "", err)
	}
	return nil
}

// Events calls handle for each transition, repair and manual action of any replica, until ctx ends, and for each
// [EventStoreReset]. It reconnects by itself. What is published meanwhile is lost, so a caller that must know polls
// besides, or calls [Store.Follow], which is slower and loses nothing. In cached mode, handle calls the Manager's
// Invalidate.
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
	values := []any{"agent", agent, "event", line}
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.Stream(), MaxLen: maxStream, Approx: true, Values: values})
	if manual {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.Audit(), MaxLen: maxAudit, Approx: true, Values: values})
	}
}
