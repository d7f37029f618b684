package main

import (
	"context"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// scriptCase is one operation in one situation: prepare once a round, before each call, and the call that is measured.
type scriptCase struct {
	name    string
	prepare func(ctx context.Context, g *ground, agent string) error
	before  func(ctx context.Context, g *ground, agent string, i int) error // nil: nothing
	op      machine.Op
	goal    float64 // µs; 0: none
}

func record(outcomes ...breaker.OutcomeKind) machine.Op {
	op := machine.Op{Verb: machine.VerbRecord}
	for _, kind := range outcomes {
		op.Summary = op.Summary.Join(breaker.Outcome{Kind: kind}.Summary())
	}
	return op
}

func scriptCases() []scriptCase {
	const success, failure = breaker.Success, breaker.Failure
	acquire := machine.Op{Verb: machine.VerbAcquire}
	calm := func(ctx context.Context, g *ground, agent string) error { return g.window(ctx, agent, 0) }
	failing := func(ctx context.Context, g *ground, agent string) error { return g.window(ctx, agent, 1) }
	return []scriptCase{
		{"acquire, closed", failing, nil, acquire, 1.5},
		{"acquire, open: refused", opened, nil, acquire, 8},
		{"acquire, held open: refused", forced(breaker.HoldOpen), nil, acquire, 0},
		{"acquire, half-open, no place: refused", taken, nil, acquire, 20},
		{"record of a success, calm window", calm, nil, record(success), 9.5},
		{"record of a success, failures in the window", failing, nil, record(success), 0},
		{"record of a failure, failures in the window", failing, endRun, record(failure), 14},
		{"record of 3 successes around a failure, likewise", failing, nil, record(success, failure, success, success), 0},
		{"record that begins a bucket", failing, nothingCached, record(success), 35},
	}
}

func forced(target breaker.Target) func(context.Context, *ground, string) error {
	return func(ctx context.Context, g *ground, agent string) error {
		return g.apply(ctx, agent, machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: target, Actor: "bench"}})
	}
}

func opened(ctx context.Context, g *ground, agent string) error {
	for range g.policy.FailureThreshold {
		if err := g.apply(ctx, agent, record(breaker.Failure)); err != nil {
			return err
		}
	}
	return nil
}

// taken is half-open, with every place of the round taken.
func taken(ctx context.Context, g *ground, agent string) error {
	if err := forced(breaker.ResetHalfOpen)(ctx, g, agent); err != nil {
		return err
	}
	for range g.policy.HalfOpenMaxCalls {
		if err := g.apply(ctx, agent, machine.Op{Verb: machine.VerbAcquire}); err != nil {
			return err
		}
	}
	return nil
}

// endRun keeps failures from tripping: a run of five would.
func endRun(ctx context.Context, g *ground, agent string, i int) error {
	if i%4 != 0 {
		return nil
	}
	return g.server.client.HDel(ctx, g.store.Keys().Machine(agent)[3], "run").Err()
}

// nothingCached makes the next record sum the window anew, as the first in a bucket does.
func nothingCached(ctx context.Context, g *ground, agent string, _ int) error {
	return g.server.client.HDel(ctx, g.store.Keys().Machine(agent)[3], "past").Err()
}
