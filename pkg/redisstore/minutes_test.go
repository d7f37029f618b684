package redisstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestMinutes_OfTheHistoryAndOfTheWindowAreAddedOnce(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) *engine{"miniredis": miniEngine, "redis": realEngine} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t)
			p := breaker.Policy{WindowSize: 2 * time.Minute, FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off}.WithDefaults()
			const minute = int64(60_000)
			begin := time.Now().UnixMilli() / minute * minute // the server itself drops keys that expire
			record := func(at int64, s machine.Summary) {
				t.Helper()
				op := machine.Op{Verb: machine.VerbRecord, Summary: s, Draw: machine.ZeroEpoch[1:]}
				if r, err := e.Apply(at, "a", p, op); err != nil || r.Code != machine.CodeOK {
					t.Fatalf("%+v %v", r, err)
				}
			}
			want := func(wanted ...machine.Minute) {
				t.Helper()
				got, kept, nowMs, err := e.store.Minutes(t.Context(), "a")
				if err != nil || kept != 60 || nowMs != e.now || !slices.Equal(got, wanted) {
					t.Errorf("at %d kept %d: %+v, not %+v (%v)", nowMs, kept, got, wanted, err)
				}
			}
			want()
			record(begin, machine.Summary{Successes: 3})
			record(begin+20_000, machine.Summary{Failures: 2, Slow: 1, MaxRun: 1})
			first := machine.Minute{StartMs: begin, Calls: 5, Failures: 2, Slow: 1}
			want(first)
			record(begin+10*minute, machine.Summary{Successes: 1}) // the first minute's buckets leave the window
			want(first, machine.Minute{StartMs: begin + 10*minute, Calls: 1})
			record(begin+65*minute, machine.Summary{Successes: 4})
			want(machine.Minute{StartMs: begin + 10*minute, Calls: 1}, machine.Minute{StartMs: begin + 65*minute, Calls: 4})
		})
	}
}
