package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// linearState is the sequential breaker that porcupine runs: the keys, as Load, Step and Save make them.
type linearState struct{ raw machine.Raw }

// linearModel is Step as a sequential specification. A reply carries the server's now_ms, which is what Step needs to
// say what the reply must have been; a plainly closed acquire carries none, and must have met a plainly closed breaker.
func linearModel(agent string, p breaker.Policy) porcupine.Model {
	params := p.Params(time.Hour, 0)
	return porcupine.Model{
		Init: func() any { return linearState{} },
		Step: func(state, input, output any) (bool, any) {
			s, op, got := state.(linearState), input.(machine.Op), output.(machine.Result)
			if got.NowMs == 0 {
				return op.Verb == machine.VerbAcquire && s.raw.Control["plain"] == got.Epoch, s
			}
			op.ShiftMs = params.Shift(agent)
			after, want := machine.Step(params, machine.Load(s.raw), op, got.NowMs)
			want.Fast = got.Fast // nobody edits the keys, so both paths answer alike
			want.Plain = got.Plain && want.Code == machine.CodeOK && want.State == machine.Closed && after.Ramp.LengthMs == 0
			if fmt.Sprint(want) != fmt.Sprint(got) {
				return false, s
			}
			return true, linearState{machine.Save(s.raw, params, after, want.Events, got.NowMs)}
		},
		Equal: func(a, b any) bool {
			return slices.Equal(storetest.Lines(a.(linearState).raw), storetest.Lines(b.(linearState).raw))
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// TestHistories_AreLinearizable: concurrent acquires and records on real Redis have an order in which each got what
// Step gives. Records of callers that share a round trip are joined, and rates are tested at the end of what was joined
// [B5], so no rate may trip here.
func TestHistories_AreLinearizable(t *testing.T) {
	t.Parallel()
	client := testkit.Start(t).Client(t)
	p := breaker.DefaultPolicy()
	p.FailureThreshold, p.Timeout, p.HalfOpenMaxCalls, p.ProbeTimeout = 2, 2*time.Millisecond, 2, 4*time.Millisecond
	p.MinimumCalls = 1000
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]int{}
	for h := range 60 {
		ops := recordHistory(t, store, p, fmt.Sprintf("linear-%d", h), uint64(h))
		for _, o := range ops {
			states[string(o.Output.(machine.Result).State)]++
		}
		if res, info := porcupine.CheckOperationsVerbose(linearModel(fmt.Sprintf("linear-%d", h), p), ops, 20*time.Second); res != porcupine.Ok {
			t.Fatalf("history %d: %s: %+v", h, res, info)
		}
	}
	for _, s := range []breaker.State{breaker.Closed, breaker.Open, breaker.HalfOpen} {
		if states[string(s)] < 50 {
			t.Errorf("state %s was met %d times only: %v", s, states[string(s)], states)
		}
	}
}

func recordHistory(t *testing.T, store *redisstore.Store, p breaker.Policy, agent string, seed uint64) []porcupine.Operation {
	var mu sync.Mutex
	var ops []porcupine.Operation
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(worker)))
			var owed []machine.Op
			for i := range 14 {
				op := machine.Op{Verb: machine.VerbAcquire, Draw: fmt.Sprintf("%05x%05x%05x", seed, worker, i), Token: fmt.Sprintf("%08x%04x%04x", seed+1, worker, i)}
				if len(owed) > 0 && r.IntN(2) == 0 {
					op = owed[0]
					owed = owed[1:]
					op.Draw = fmt.Sprintf("%05x%05x%05x", seed, worker, i)
				}
				call := time.Now().UnixNano()
				res, err := store.Apply(context.Background(), agent, p, op)
				done := time.Now().UnixNano()
				if err != nil {
					t.Error(err)
					return
				}
				if op.Verb == machine.VerbAcquire && res.Code == machine.CodeOK {
					kind := breaker.Failure
					if r.IntN(3) == 0 {
						kind = breaker.Success
					}
					settle := machine.Op{Verb: machine.VerbRecord, Epoch: res.Epoch, Summary: breaker.Outcome{Kind: kind}.Summary()}
					if res.LeaseMs > 0 {
						settle.Token = op.Token
					}
					owed = append(owed, settle)
				}
				mu.Lock()
				ops = append(ops, porcupine.Operation{ClientId: worker, Input: op, Call: call, Output: res, Return: done})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return ops
}

// TestLinearizability_SeesAWrongReply: the proof above can fail.
func TestLinearizability_SeesAWrongReply(t *testing.T) {
	t.Parallel()
	client := testkit.Start(t).Client(t)
	p := breaker.DefaultPolicy()
	p.FailureThreshold = 2
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ops := recordHistory(t, store, p, "wrong", 7)
	for i := range ops {
		if res := ops[i].Output.(machine.Result); res.Code == machine.CodeRefused {
			res.Code, res.Reason, res.RetryAfterMs = machine.CodeOK, "", 0
			ops[i].Output = res
			break
		}
	}
	if res := porcupine.CheckOperations(linearModel("wrong", p), ops); res {
		t.Error("an admission by an open breaker passed as linearizable")
	}
}

// scriptCalls reads from INFO commandstats how many scripts were run.
func scriptCalls(t testing.TB, client *redis.Client) int64 {
	t.Helper()
	text, err := client.Do(context.Background(), "INFO", "commandstats").Text()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			var n int64
			if _, err := fmt.Sscanf(rest, "%d,", &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
