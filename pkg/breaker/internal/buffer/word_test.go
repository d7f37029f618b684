package buffer

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// FuzzWord compares a word with Summary.Join.
func FuzzWord(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 1})
	f.Fuzz(checkWord[*testing.T])
}

func TestWord_EqualsJoin(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		outcomes := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 600).Draw(t, "outcomes")
		checkWord(t, outcomes)
	})
}

// checkWord adds a success for each even byte and a failure for each odd one. The parity bit must stay as it was.
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
		t.Fatalf("word has %+v, Join %+v", got, want)
	}
	if word&wordParity != parity {
		t.Fatalf("the parity has changed: %#x", word)
	}
}

// capped returns s with its runs bounded by machine.MaxRun, as in a word.
func capped(s machine.Summary) machine.Summary {
	s.Lead, s.Trail, s.MaxRun = min(s.Lead, machine.MaxRun), min(s.Trail, machine.MaxRun), min(s.MaxRun, machine.MaxRun)
	return s
}
