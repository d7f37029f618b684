// Package storetest is the conformance suite for authors of stores [B1]–[B26]. It drives a store and a [Model] with the
// same operations and compares, after each of them, the answer, the keys byte for byte, and the instant at which the
// keys expire.
//
// An author adapts the store to [Engine] and runs the suite in a test:
//
//	func TestStore(t *testing.T) {
//		storetest.Exercise(t, func(t testing.TB) storetest.Engine { return startEngine(t) }, 1000)
//	}
//
// The suite has two parts, which also run by themselves:
//
//   - [Transcripts] replays testdata/*.txt: for every clause operations and answers, worked out by hand from the
//     clause.
//   - [Histories] replays random operations, external edits and clock jumps. [Replay] is one history, of which a fuzzer
//     may choose the bytes.
//
// A failure shows the first difference and everything that led to it.
package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BaseMs is the moment at which transcripts and histories begin: so far ahead of any real clock that no key of a test
// expires by itself.
const BaseMs = 4_102_444_800_000 // 2100-01-01

// steps is the length of a random history.
const steps = 40

// Exercise runs the whole suite on one kind of store: every transcript, and n random histories.
func Exercise(t *testing.T, newEngine func(t testing.TB) Engine, n int) {
	t.Helper()
	Transcripts(t, newEngine)
	Histories(t, newEngine, 1, n)
}

// Histories runs n random histories of 40 operations, in two shards side by side. Each history has an agent of its own.
func Histories(t *testing.T, newEngine func(t testing.TB) Engine, seed uint64, n int) {
	t.Helper()
	const shards = 2
	for shard := range shards {
		t.Run(fmt.Sprintf("shard%d", shard), func(t *testing.T) {
			t.Parallel()
			engine, model := newEngine(t), NewModel()
			for i := shard; i < n; i += shards {
				c := newComparison(engine, model, fmt.Sprintf("h%d", i))
				if err := replay(c, Choices(seed, i), steps); err != nil {
					t.Fatalf("history %d of seed %d: %v", i, seed, err)
				}
				if err := c.edit(Edit{Do: DelAll}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Choices are the bytes that choose the operations of one random history, more than it can use.
func Choices(seed uint64, i int) []byte {
	data := make([]byte, steps*64)
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	for j := range data {
		data[j] = byte(r.Uint32())
	}
	return data
}

// Replay runs the history that data chooses, of at most so many operations, and returns the first difference between
// engine and model with everything that led to it.
func Replay(engine Engine, model *Model, agent string, data []byte, operations int) error {
	return replay(newComparison(engine, model, agent), data, operations)
}
