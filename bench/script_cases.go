package main

import (
	"context"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// scriptCase is one operation on a breaker in one state.
type scriptCase struct {
	name string
	// prepare brings the breaker of an agent into the state, once a round.
	prepare func(ctx context.Context, f *scriptFixture, agent string) error
	// before runs before each call, unless it is nil.
	before func(ctx context.Context, f *scriptFixture, agent string, call int) error
	op     machine.Op
	goal   float64 // µs, 0 for none
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
	calm := func(ctx context.Context, f *scriptFixture, agent string) error { return f.window(ctx, agent, 0) }
	failing := func(ctx context.Context, f *scriptFixture, agent string) error { return f.window(ctx, agent, 1) }
	return []scriptCase{
		{"acquire, closed", failing, nil, acquire, 1.5},
		{"acquire, open: refused", openBreaker, nil, acquire, 8},
		{"acquire, held open: refused", forced(breaker.HoldOpen), nil, acquire, 0},
		{"acquire, half-open, no place: refused", takePlaces, nil, acquire, 20},
		{"record of a success, calm window", calm, nil, record(success), 9.5},
		{"record of a success, failures in the window", failing, nil, record(success), 0},
		{"record of a failure, failures in the window", failing, endRun, record(failure), 14},
		{"record of 3 successes around a failure, likewise", failing, nil, record(success, failure, success, success), 0},
		{"record that begins a bucket", failing, dropCachedSums, record(success), 35},
	}
}

func forced(target breaker.Target) func(context.Context, *scriptFixture, string) error {
	return func(ctx context.Context, f *scriptFixture, agent string) error {
		force := breaker.Force{Target: target, Actor: "bench"}
		return f.apply(ctx, agent, machine.Op{Verb: machine.VerbForce, Force: force})
	}
}

func openBreaker(ctx context.Context, f *scriptFixture, agent string) error {
	for range f.policy.FailureThreshold {
		if err := f.apply(ctx, agent, record(breaker.Failure)); err != nil {
			return err
		}
	}
	return nil
}

// takePlaces makes the breaker half-open, with every place of the round taken.
func takePlaces(ctx context.Context, f *scriptFixture, agent string) error {
	if err := forced(breaker.ResetHalfOpen)(ctx, f, agent); err != nil {
		return err
	}
	for range f.policy.HalfOpenMaxCalls {
		if err := f.apply(ctx, agent, machine.Op{Verb: machine.VerbAcquire}); err != nil {
			return err
		}
	}
	return nil
}

// endRun ends the run of failures, since five in a row trip the breaker.
func endRun(ctx context.Context, f *scriptFixture, agent string, i int) error {
	if i%4 != 0 {
		return nil
	}
	return f.server.client.HDel(ctx, f.store.Keys().Machine(agent)[3], "run").Err()
}

// dropCachedSums drops the cached sums of the window, so that the next record sums the window as the first of a bucket
// does.
func dropCachedSums(ctx context.Context, f *scriptFixture, agent string, _ int) error {
	return f.server.client.HDel(ctx, f.store.Keys().Machine(agent)[3], "past").Err()
}
