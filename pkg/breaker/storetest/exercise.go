package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Replay runs the history that the bytes describe, of at most steps operations, and reports the first difference between the
// engine and the model with everything that led to it.
func Replay(engine Engine, model *Model, agent string, data []byte, steps int) error {
	h := &history{src: &source{data: data}, agent: agent, now: BaseMs, model: model, engine: engine}
	h.policy = randomPolicy(h.src)
	h.note("policy %+v", h.policy)
	if err := h.run(steps); err != nil {
		return fmt.Errorf("%w\nafter:\n%s", err, strings.Join(h.trail, "\n"))
	}
	return nil
}

// Histories runs n random histories of the given length, from seed on; each has an agent of its own.
func Histories(t *testing.T, engine Engine, seed uint64, n, steps int) {
	t.Helper()
	model := NewModel()
	for i := range n {
		data := make([]byte, steps*40)
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		agent := fmt.Sprintf("h%d", i)
		if err := Replay(engine, model, agent, data, steps); err != nil {
			t.Fatalf("history %d of seed %d: %v", i, seed, err)
		}
		model.Forget(agent)
		if err := engine.Edit(agent, Edit{Do: DelAll}); err != nil {
			t.Fatal(err)
		}
	}
}

// Forget drops all that the model holds of an agent.
func (m *Model) Forget(agent string) { delete(m.agents, agent) }
