package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// FuzzWord joins outcomes into a word, and by Summary.Join: both must say the same, up to where a run stops counting.
func FuzzWord(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 1})
	f.Fuzz(checkWord[*testing.T])
}

func TestAWordHoldsWhatJoinSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		outcomes := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 600).Draw(t, "outcomes")
		checkWord(t, outcomes)
	})
}

// checkWord takes each even byte for a success.
func checkWord[T interface {
	Fatalf(format string, args ...any)
}](t T, outcomes []byte) {
	var word uint64
	var want machine.Summary
	for i, b := range outcomes {
		failed, with := true, withFailure
		if b%2 == 0 {
			failed, with = false, withSuccess
		}
		var ok bool
		if word, ok = with(word); !ok {
			t.Fatalf("no room for outcome %d", i)
		}
		want = want.Join(machine.One(failed, false, 0))
	}
	want.Lead, want.Trail, want.MaxRun = min(want.Lead, machine.MaxRun), min(want.Trail, machine.MaxRun), min(want.MaxRun, machine.MaxRun)
	if got := unpack(word); got != want {
		t.Fatalf("word says %+v, Join %+v", got, want)
	}
}

// keeping is a cell whose outcomes are not sent.
func keeping(t *testing.T) *cell {
	t.Helper()
	m, err := NewManager(Options{Store: NewMemory(nil, 0)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	m.flusher = flush.New(time.Hour, func(*cell) { <-done })
	c := newCell(&Agent{m: m, name: "a"}, machine.ZeroEpoch)
	t.Cleanup(func() {
		for held := true; held; {
			held = c.take().Calls() > 0
		}
		close(done)
	})
	return c
}

func TestAFullWordSpills(t *testing.T) {
	t.Parallel()
	c := keeping(t)
	c.word.Store(wordSuccesses)
	c.success()
	if got := c.holds(); got != (machine.Summary{Successes: wordSuccesses + 1}) {
		t.Errorf("2^24 successes are kept as %+v", got)
	}
	c.take()
	c.take()
	for range wordFailures + 3 {
		c.failure()
	}
	want := machine.Summary{Failures: wordFailures + 3, Lead: machine.MaxRun, Trail: machine.MaxRun, MaxRun: machine.MaxRun}
	if got := c.holds(); got.Failures != want.Failures || got.MaxRun < machine.MaxRun || got.Lead < machine.MaxRun || got.Trail < machine.MaxRun {
		t.Errorf("65538 failures are kept as %+v", got)
	}
}

// TestWhatFollowsAWaitIsARecordOfItsOwn is for [B22]: a success clears an upstream's wait or does not, as the policy says.
func TestWhatFollowsAWaitIsARecordOfItsOwn(t *testing.T) {
	t.Parallel()
	c := keeping(t)
	wait := machine.Summary{Failures: 1, Lead: 1, Trail: 1, MaxRun: 1, WaitMs: 5}
	c.success()
	c.spill(wait)
	c.success()
	c.failure()
	c.spill(wait)
	c.success()
	want := []machine.Summary{
		{Successes: 1, Failures: 1, Trail: 1, MaxRun: 1, WaitMs: 5},
		{Successes: 1, Failures: 2, Trail: 2, MaxRun: 2, WaitMs: 5},
		{Successes: 1},
		{},
	}
	for i, w := range want {
		if got := c.take(); got != w {
			t.Errorf("record %d: %+v, want %+v", i, got, w)
		}
	}
	for range 3 * maxPending {
		c.spill(wait)
	}
	if len(c.pending) != maxPending || c.holds().Failures != 3*maxPending {
		t.Errorf("%d records hold %+v", len(c.pending), c.holds())
	}
}
