package buffer

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestBuffer_FullWordSpills(t *testing.T) {
	t.Parallel()
	var b Buffer
	b.word.Store(wordSuccesses)
	b.Success()
	if got := b.Sum(); got != (machine.Summary{Successes: wordSuccesses + 1}) {
		t.Errorf("2^23 successes: got %+v", got)
	}
	b.Take()
	b.Take()
	for range wordFailures + 3 {
		b.Failure(0)
	}
	want := machine.Summary{Failures: wordFailures + 3, Lead: machine.MaxRun, Trail: machine.MaxRun, MaxRun: machine.MaxRun}
	if got := b.Sum(); capped(got) != want {
		t.Errorf("65538 failures: got %+v", got)
	}
}

func TestBuffer_FullStripeFallsBackToTheWord(t *testing.T) {
	t.Parallel()
	var b Buffer
	b.makeStripes()
	b.Success()
	for i := range b.stripes.Load().each {
		b.stripes.Load().each[i].Store(stripeCount - 1)
	}
	full := int64(len(b.stripes.Load().each)) * (stripeCount - 1)
	for range 5 {
		b.Success()
	}
	if got, word := b.Sum(), unpack(b.word.Load()); got != (machine.Summary{Successes: full + 6}) || word.Successes < 5 {
		t.Errorf("got %+v, with %+v in the word", got, word)
	}
}

// A success after a Retry-After clears the wait or does not, as the policy says [B22].
func TestBuffer_OutcomesAfterARetryAfterAreAnotherRecord(t *testing.T) {
	t.Parallel()
	var b Buffer
	wait := machine.Summary{Failures: 1, Lead: 1, Trail: 1, MaxRun: 1, WaitMs: 5}
	b.Success()
	b.Add(wait, 0)
	b.Success()
	b.Failure(0)
	b.Add(wait, 0)
	b.Success()
	want := []machine.Summary{
		{Successes: 1, Failures: 1, Trail: 1, MaxRun: 1, WaitMs: 5},
		{Successes: 1, Failures: 2, Trail: 2, MaxRun: 2, WaitMs: 5},
		{Successes: 1},
		{},
	}
	for i, w := range want {
		if got, got2 := b.Records(), b.Take(); got != len(want)-1-i || got2 != w {
			t.Errorf("record %d, with %d after it: got %+v, want %+v", i, got, got2, w)
		}
	}
	for range 3 * maxPending {
		b.Add(wait, 0)
	}
	if n := b.Records(); n != maxPending || b.Sum().Failures != 3*maxPending {
		t.Errorf("%d records hold %+v", n, b.Sum())
	}
}

// With and without stripes, a Buffer gives the outputs of the model.
func TestBuffer_SequentialCallsMatchTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b Buffer
		s := state{run: rapid.Int64Range(0, threshold).Draw(t, "run")}
		b.SetRun(s.run)
		all := []byte(rapid.StringOfN(rapid.RuneFrom([]rune("SSSSFFFAT+")), 0, 200, -1).Draw(t, "calls"))
		for i, in := range all {
			var ok bool
			output := call(&b, input(in))
			if ok, s = step(s, input(in), output); !ok {
				t.Fatalf("call %d, %c: %+v, then %+v", i, in, output, s)
			}
			if got := b.Sum(); got != s.held || b.Reaches(threshold) != s.reaches() {
				t.Fatalf("call %d, %c: holds %+v, want %+v", i, in, got, s)
			}
		}
	})
}

// Only the first success and the first failure need to enqueue the Buffer.
func TestBuffer_FirstSuccessAndFirstFailureAreReported(t *testing.T) {
	t.Parallel()
	for _, striped := range []bool{false, true} {
		var b Buffer
		if striped {
			b.makeStripes()
		}
		for range 3 {
			for i := range 5 {
				if first := b.Success(); first != (i == 0) {
					t.Errorf("success %d: first is %v", i, first)
				}
			}
			for i := range 5 {
				if first, _, _ := b.Failure(0); first != (i == 0) {
					t.Errorf("failure %d: first is %v", i, first)
				}
			}
			if got, want := b.Take(), (machine.Summary{Successes: 5, Failures: 5, Trail: 5, MaxRun: 5}); got != want {
				t.Errorf("took %+v, want %+v", got, want)
			}
		}
	}
}
