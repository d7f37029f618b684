package buffer

import (
	"testing"

	"pgregory.net/rapid"

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

// checkWord takes each even byte for a success. The parity of the word is that of the number of outcomes, and stays.
func checkWord[T interface {
	Fatalf(format string, args ...any)
}](t T, outcomes []byte) {
	parity := uint64(len(outcomes)) & 1 << parityAt
	word := parity
	var want machine.Summary
	for i, b := range outcomes {
		failed, with := true, withFailure
		if b%2 == 0 {
			failed, with = false, withSuccess
		}
		if isEmpty(word) != (i == 0) {
			t.Fatalf("after %d outcomes word is %#x", i, word)
		}
		var ok bool
		if word, ok = with(word); !ok {
			t.Fatalf("no room for outcome %d", i)
		}
		want = want.Join(machine.One(failed, false, 0))
	}
	if got := unpack(word); got != capped(want) {
		t.Fatalf("word says %+v, Join %+v", got, want)
	}
	if word&wordParity != parity {
		t.Fatalf("the parity has changed: %#x", word)
	}
}

// capped is s with its runs where the machine stops counting.
func capped(s machine.Summary) machine.Summary {
	s.Lead, s.Trail, s.MaxRun = min(s.Lead, machine.MaxRun), min(s.Trail, machine.MaxRun), min(s.MaxRun, machine.MaxRun)
	return s
}
