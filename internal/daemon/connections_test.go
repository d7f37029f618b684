package daemon

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoom_IsWhatTheLimitOfOpenFilesLeaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files    uint64
		callsOut bool
		in, out  int
	}{
		{256, false, 192, 0},
		{256, true, 96, 96},
		{1024, false, 768, 0},
		{10, true, 8, 8},
		{math.MaxUint64, false, 3 << 18, 0}, // RLIM_INFINITY
	} {
		if in, out := room(c.files, c.callsOut); in != c.in || out != c.out {
			t.Errorf("%d files, calls out %v: %d in, %d out, want %d and %d", c.files, c.callsOut, in, out, c.in, c.out)
		}
	}
}

func TestPace_CountsWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pace
		if first, second := p.due(time.Now()), p.due(time.Now()); first != 1 || second != 0 {
			t.Errorf("%d, then %d", first, second)
		}
		time.Sleep(pause)
		if third := p.due(time.Now()); third != 2 {
			t.Errorf("after a pause: %d", third)
		}
	})
}
