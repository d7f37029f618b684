package replica

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	// remindBefore is how long before the end of a hold the fleet is reminded of it. A shorter hold has no reminder.
	remindBefore = 10 * time.Minute
	// reminderTurn is how long one replica alone tries to say something.
	reminderTurn = time.Minute
)

// reminders says what comes with the time, which every replica notices, once for the fleet.
type reminders struct {
	docs    *redisdocs.Docs
	replica string
	key     func(of string, sinceMs int64) string
}

func newReminders(r *Replica) reminders { return reminders{r.Docs, r.ID, r.Store.Keys().Reminder} }

// once calls say, unless another replica has said it, or is about to; that it was said is known for so long. of and
// sinceMs are those of [redisstore.Keys.Reminder]. done: it is said. If it is not, it may be tried again: say failed,
// had nothing to say, or is another's turn.
func (m reminders) once(
	ctx context.Context, of string, sinceMs int64, known time.Duration, say func() (said bool, err error),
) (done bool, err error) {
	key, turn := m.key(of, sinceMs), m.replica+" "+rand.Text()
	who, err := m.docs.Lease(ctx, key, turn, reminderTurn)
	if err != nil || who != turn {
		return err == nil && !strings.Contains(who, " "), err
	}
	if said, err := say(); err != nil || !said {
		return false, err
	}
	return true, m.docs.PutLease(ctx, key, m.replica, known)
}

// timedHold is a hold that ends by itself.
type timedHold struct {
	startMs int64
	ends    time.Time
}

func timedOf(v breaker.View) *timedHold {
	if v.Hold.Kind == "" || v.Hold.LengthMs <= remindBefore.Milliseconds() {
		return nil
	}
	return &timedHold{v.Hold.StartMs, time.Now().Add(time.Duration(v.DeadlineMs()-v.NowMs) * time.Millisecond)}
}

// remind says of each hold that ends soon that it does, once in the fleet. One that cannot be said is said by a later
// sweep.
func (h *holds) remind(ctx context.Context) error {
	due := map[string]int64{}
	h.mu.Lock()
	for agent, k := range h.known {
		if k.timed == nil {
			continue
		}
		if left := time.Until(k.timed.ends); left > 0 && left <= remindBefore {
			due[agent] = k.timed.startMs
		}
	}
	h.mu.Unlock()
	for agent, startMs := range due {
		if err := h.remindOf(ctx, agent, startMs); err != nil && !refused(err) {
			return err
		}
	}
	return nil
}

func (h *holds) remindOf(ctx context.Context, agent string, startMs int64) error {
	_, err := h.reminders.once(ctx, agent, startMs, remindBefore+reminderTurn, func() (said bool, err error) {
		v, err := h.inspect(ctx, agent)
		if err != nil || v.Hold.Kind == "" || v.Hold.StartMs != startMs { // another hold has a reminder of its own
			return false, err
		}
		ends := time.UnixMilli(v.DeadlineMs()).UTC().Format(time.RFC3339)
		text := fmt.Sprintf("held %s until %s: %s", v.Hold.Kind.Upper(), ends, view.Reason(v))
		if err := h.announce(ctx, agent, v.Epoch, v.State, text); err != nil {
			return false, err
		}
		h.log.Info("a hold ends soon", "event", "circuit_breaker.hold_ends_soon", "agent", agent, "until", ends,
			"actor", v.Hold.Actor)
		return true, nil
	})
	return err
}
