package redisstore_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// memoryRow is a row of the table in docs/keys.md: state, then bytes with a name of 12 and of 32 bytes, in a calm
// window and in a full one.
var memoryRow = regexp.MustCompile("(?m)^\\| `(closed|open|half_open)` \\| (\\d+) \\| (\\d+) \\| (\\d+) \\| (\\d+) \\|$")

// calm is a window with successes in every bucket, and no failures before those that open; full has both in all of
// them.
const (
	calm = 0
	full = 13
)

// TestMemory_ABreakerStaysSmall fills a window, opens and probes under the default policy, and sums MEMORY USAGE of the
// machine's keys, the log apart. What docs/keys.md says may be off by a tenth: allocators differ.
func TestMemory_ABreakerStaysSmall(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string][]string{}
	for _, m := range memoryRow.FindAllStringSubmatch(string(text), -1) {
		said[m[1]] = m[2:]
	}
	bounds := map[int]map[breaker.State]int64{
		calm: {breaker.Closed: 1024, breaker.Open: 1024, breaker.HalfOpen: 1536},
		full: {breaker.Closed: 1024, breaker.Open: 1280, breaker.HalfOpen: 1664},
	}
	for column, c := range []struct{ failing, name int }{{calm, 12}, {calm, 32}, {full, 12}, {full, 32}} {
		for state, bytes := range memoryByState(t, strings.Repeat("a", c.name), c.failing) {
			t.Logf("name of %d bytes, %d buckets with failures, %s: %d bytes", c.name, c.failing, state, bytes)
			if most := bounds[c.failing][state]; bytes > most {
				t.Errorf("name of %d bytes: %s takes %d bytes, want at most %d", c.name, state, bytes, most)
			}
			if said[string(state)] == nil {
				t.Errorf("docs/keys.md has no row for %s", state)
				continue
			}
			if n, _ := strconv.ParseInt(said[string(state)][column], 10, 64); bytes*10 > n*11 || bytes*10 < n*9 {
				t.Errorf("docs/keys.md says %d bytes for %s, measured %d", n, state, bytes)
			}
		}
	}
}

// memoryByState measures one breaker; failures fall into the last failing buckets of its window.
func memoryByState(t *testing.T, agent string, failing int) map[breaker.State]int64 {
	t.Helper()
	e, p, out := realEngine(t), breaker.DefaultPolicy(), map[breaker.State]int64{}
	now := int64(1_800_000_000_000)
	apply := func(op machine.Op, want breaker.State) {
		t.Helper()
		op.Draw = "0123456789abcde"
		if r, err := e.Apply(now, agent, p, op); err != nil || r.State != want {
			t.Fatalf("%s: state %q, %v; want %q", op.Verb, r.State, err, want)
		}
	}
	measure := func(state breaker.State) {
		t.Helper()
		for _, key := range e.store.Keys().Machine(agent)[:5] {
			if n, err := e.client.MemoryUsage(t.Context(), key, 0).Result(); err == nil { // else the key is absent
				out[state] += n
			}
		}
	}
	for i := range full {
		s := machine.Summary{Successes: 900}
		if i >= full-failing {
			s = machine.Summary{Successes: 900, Failures: 100, Lead: 1, Trail: 1, MaxRun: 2}
		}
		now += p.WindowSize.Milliseconds() / 12
		apply(machine.Op{Verb: machine.VerbRecord, Summary: s}, breaker.Closed)
	}
	measure(breaker.Closed)
	run := machine.Summary{Failures: 5, Lead: 5, Trail: 5, MaxRun: 5}
	apply(machine.Op{Verb: machine.VerbRecord, Summary: run}, breaker.Open)
	measure(breaker.Open)
	now += p.Timeout.Milliseconds()
	for range p.HalfOpenMaxCalls {
		apply(machine.Op{Verb: machine.VerbAcquire, Token: fmt.Sprintf("%016x", now)}, breaker.HalfOpen)
		now++
	}
	measure(breaker.HalfOpen)
	return out
}
