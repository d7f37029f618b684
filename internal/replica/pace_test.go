package replica

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Made-up names do not make the pace forget a key that is asked for all the time.
func TestPace_IsBoundedAndForgetsOnlyWhatIsNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		if !p.due("real") || p.due("real") {
			t.Error("not once a second")
		}
		for i := range 3 * paced {
			if !p.due(fmt.Sprint("made-up-", i)) {
				t.Fatal("a new key is not due")
			}
			if i%100 == 0 && p.due("real") {
				t.Fatal("forgotten")
			}
		}
		if n := p.last.Len(); n > paced {
			t.Errorf("%d keys", n)
		}
		time.Sleep(time.Second)
		if !p.due("real") {
			t.Error("not due a second later")
		}
	})
}
