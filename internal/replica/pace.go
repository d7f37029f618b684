package replica

import (
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
)

// pace lets each key through once a second.
type pace struct {
	last *bounded.Map[*atomic.Int64] // when, in nanoseconds since 1970
}

// paced bounds the keys that a pace remembers. Of more, some may come through more often.
const paced = 10_000

func newPace() pace { return pace{bounded.New(bounded.Options[*atomic.Int64]{Max: paced})} }

func (p pace) due(key string) bool {
	last, _ := p.last.LoadOrStore(key, new(atomic.Int64))
	before, now := last.Load(), time.Now().UnixNano()
	return now-before >= int64(time.Second) && last.CompareAndSwap(before, now)
}
