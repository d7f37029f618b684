package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Replay runs the history that the bytes describe, of at most steps operations, and reports the first difference between the
// engine and the model with everything that led to it.
func Replay(engine Engine, model *Model, agent string, data []byte, steps int) error {
	h := &history{twins: newTwins(engine, model, agent), src: &source{data: data}, now: BaseMs}
	h.policy = randomPolicy(h.src)
	if h.crowd = h.src.one(10); h.crowd {
		h.policy.MinimumReporters, h.policy.Mode, h.policy.RetryAfter = 8, breaker.Enforce, breaker.RetryAfterIgnore
		h.policy.WindowSize, h.policy.FailureThreshold, h.policy.FailureRateThreshold = 120*time.Second, breaker.Off, breaker.Off
	}
	if h.src.one(10) {
		model.KeepHistory(0)
		defer model.KeepHistory(60)
	}
	engine.KeepHistory(int(model.HistoryMinutes))
	h.note("policy %+v, history %d", h.policy, model.HistoryMinutes)
	if err := h.run(steps); err != nil {
		return fmt.Errorf("%w\nafter:\n%s", err, h.story())
	}
	return nil
}

// Exercise is the whole suite on one kind of store: every transcript, and n random histories of 40 operations each.
// TestHistories… run the second half by itself where a profile of the machine is wanted.
func Exercise(t *testing.T, newEngine func(t testing.TB) Engine, n int) {
	t.Helper()
	Transcripts(t, newEngine)
	Histories(t, newEngine, 1, n)
}

// steps is the length of a random history; the least that the project asks for is 30.
const steps = 40

// Histories runs n random histories, from seed on, in two shards side by side; each history has an agent of its own.
func Histories(t *testing.T, newEngine func(t testing.TB) Engine, seed uint64, n int) {
	t.Helper()
	const shards = 2
	for shard := range shards {
		t.Run(fmt.Sprintf("shard%d", shard), func(t *testing.T) {
			t.Parallel()
			engine, model := newEngine(t), NewModel()
			for i := shard; i < n; i += shards {
				agent := fmt.Sprintf("h%d", i)
				if err := Replay(engine, model, agent, Choices(seed, i), steps); err != nil {
					t.Fatalf("history %d of seed %d: %v", i, seed, err)
				}
				model.Forget(agent)
				if err := engine.Edit(agent, Edit{Do: DelAll}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Choices are the bytes that steer one random history, more than it can use.
func Choices(seed uint64, i int) []byte {
	data := make([]byte, steps*64)
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	for j := range data {
		data[j] = byte(r.Uint32())
	}
	return data
}

// Forget drops all that the model holds of an agent.
func (m *Model) Forget(agent string) { delete(m.agents, agent) }
