package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// formerReplica is a replica of the former version: its scripts, as Redis got them, and its arguments. It knows six
// keys, buckets without a shift, and none of the newer fields of :control.
type formerReplica struct {
	client  *redis.Client
	scripts map[string]*redis.Script
	keys    redisstore.Keys
}

func newFormerReplica(t *testing.T, client *redis.Client, keys redisstore.Keys) *formerReplica {
	t.Helper()
	b := &formerReplica{client: client, scripts: map[string]*redis.Script{}, keys: keys}
	for _, verb := range []string{"acquire", "record", "force"} {
		text, err := os.ReadFile("testdata/before/" + verb + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		b.scripts[verb] = redis.NewScript(string(text))
	}
	return b
}

// formerPolicy is the policy of the test as that version packs it.
const formerPolicy = "12000 3600000 5 500000 10 500000 0 1 1000 60000 2000 0 3 2 2000 0 0 100000 1"

func (b *formerReplica) apply(nowMs int64, agent string, op machine.Op) (code, state, epoch string, lease int64, err error) {
	args := []any{nowMs, agent, b.keys.Events(), op.Draw, op.JitterPPM, "1", "1", formerPolicy}
	switch m := op.Summary; op.Verb {
	case machine.VerbAcquire:
		args = append(args, op.Token, op.RampPPM)
	case machine.VerbRecord:
		args = append(args, op.Epoch, op.Token, m.Successes, m.Failures, m.Slow, op.Reporter, m.Lead, m.Trail, m.MaxRun, m.WaitMs)
	case machine.VerbForce:
		args = append(args, string(op.Force.Target), 0, 0, "r", "r", "alice", "0", "0")
	}
	reply, err := b.scripts[string(op.Verb)].Run(context.Background(), b.client, b.keys.Machine(agent)[:6], args...).Slice()
	if err != nil {
		return "", "", "", 0, err
	}
	text := func(i int) string { s, _ := reply[i].(string); return s }
	if len(reply) > 5 {
		lease, _ = reply[5].(int64)
	}
	return text(0), text(1), text(2), lease, nil
}

// TestFormerVersion_SharesABreakerWithThisOne: whatever version answers, no outcome is lost or counted twice, no round
// has a probe too many, and both see the same state [B2], [B9], [B12], [B14], [B20].
func TestFormerVersion_SharesABreakerWithThisOne(t *testing.T) {
	t.Parallel()
	client := testkit.Start(t).Client(t)
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	p := breaker.DefaultPolicy()
	p.WindowSize, p.Timeout, p.TimeoutMax, p.TimeoutMultiplier = 12*time.Second, time.Second, time.Minute, 2
	p.HalfOpenSuccessThreshold, p.ProbeTimeout, p.SlowCallDuration, p.SlowCallRateThreshold = 2, 2*time.Second, time.Second, 0.5
	now := int64(storetest.BaseMs)
	store.SetNow(func() int64 { return now })
	old := newFormerReplica(t, client, store.Keys())
	seen := map[machine.State]int{}
	histories := redisstore.Rounds(150, 30)
	for h := range histories {
		r := rand.New(rand.NewPCG(9, uint64(h)))
		w := &mixed{t: t, store: store, old: old, policy: p, r: r, agent: fmt.Sprintf("mixed-%d", h), now: &now, seen: seen}
		for range 80 {
			now += int64([]int{0, 0, 1, 40, 700, 1300}[r.IntN(6)])
			if !w.step() {
				return
			}
		}
	}
	for _, s := range []machine.State{machine.Closed, machine.Open, machine.HalfOpen} {
		if seen[s]*150 < 500*histories {
			t.Errorf("%s was met %d times only", s, seen[s])
		}
	}
}

// mixed is one agent, on which replicas of both versions operate.
type mixed struct {
	t       *testing.T
	store   *redisstore.Store
	old     *formerReplica
	policy  breaker.Policy
	r       *rand.Rand
	agent   string
	now     *int64
	draws   int
	owed    []machine.Op
	counted int64
	seen    map[machine.State]int
}

func (w *mixed) operation() machine.Op {
	w.draws++
	op := machine.Op{Verb: machine.VerbAcquire, Draw: fmt.Sprintf("%015x", w.draws), Token: fmt.Sprintf("%016x", w.draws)}
	if w.r.IntN(60) == 0 {
		op.Verb, op.Force = machine.VerbForce, breaker.Force{Target: breaker.ResetHalfOpen, Reason: "r", Actor: "alice"}
	}
	if len(w.owed) > 0 && w.r.IntN(2) == 0 {
		i := w.r.IntN(len(w.owed))
		op = w.owed[i]
		op.Draw = fmt.Sprintf("%015x", w.draws)
		op.Summary = machine.One(w.r.IntN(3) == 0, w.r.IntN(4) == 0, 0)
		if w.r.IntN(8) > 0 { // else it is reported twice
			w.owed = append(w.owed[:i], w.owed[i+1:]...)
		}
	}
	return op
}

func (w *mixed) step() bool {
	op := w.operation()
	params := w.policy.Params(time.Hour, 0)
	op.ShiftMs = params.Shift(w.agent)
	var code, state, epoch string
	var lease int64
	var err error
	version := "new"
	if w.r.IntN(2) == 0 {
		version = "old"
		code, state, epoch, lease, err = w.old.apply(*w.now, w.agent, op)
	} else {
		var res machine.Result
		res, err = w.store.Apply(context.Background(), w.agent, w.policy, op)
		code, state, epoch, lease = string(res.Code), string(res.State), res.Epoch, res.LeaseMs
	}
	if err != nil {
		w.t.Errorf("%s, %s %+v: %v", w.agent, version, op, err)
		return false
	}
	switch {
	case op.Verb == machine.VerbAcquire && code == "ok":
		settle := machine.Op{Verb: machine.VerbRecord, Epoch: epoch}
		if lease > 0 {
			settle.Token = op.Token
		}
		w.owed = append(w.owed, settle)
	case op.Verb == machine.VerbRecord && code == "ok":
		w.counted++
	}
	v, err := w.store.Inspect(context.Background(), w.agent, w.policy)
	w.seen[v.State]++
	switch {
	case err != nil:
		w.t.Errorf("%s: %v", w.agent, err)
	case string(v.State) != state || epoch != v.Epoch:
		w.t.Errorf("%s: %s says %s %s, the keys say %s %s", w.agent, version, state, epoch, v.State, v.Epoch)
	case v.Successes+v.Failures != w.counted:
		w.t.Errorf("%s: after %s by %s, %d outcomes of %d", w.agent, op.Verb, version, v.Successes+v.Failures, w.counted)
	case v.State == machine.HalfOpen && v.Round.OK+v.Round.Failed+int64(len(v.Leases)) > v.Round.Max:
		w.t.Errorf("%s: %d probes in a round of %d", w.agent, v.Round.OK+v.Round.Failed+int64(len(v.Leases)), v.Round.Max)
	default:
		return true
	}
	return false
}
