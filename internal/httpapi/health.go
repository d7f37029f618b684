package httpapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/health"
)

// forgottenAfter is the age at which somebody should look at a hold that has no end.
const forgottenAfter = 24 * time.Hour

// judgeEvery is how often holds and overrides are judged though no operator has changed anything here: of many agents
// that takes many reads.
const judgeEvery = time.Minute

// fleetJudge judges the fleet by an overview, now and then.
type fleetJudge struct {
	overviews *overviews
	judge     func(ctx context.Context, s *overview) (health.Check, error)

	mu      sync.Mutex
	last    health.Check
	at      time.Time
	changes int64
}

// Judge is a [health.Judge].
func (j *fleetJudge) Judge(ctx context.Context) (c health.Check, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	changes := j.overviews.changes.Load()
	if !j.at.IsZero() && time.Since(j.at) < judgeEvery && changes == j.changes {
		return j.last, true
	}
	err := j.overviews.glance(ctx, func(ctx context.Context, s *overview) (err error) {
		c, err = j.judge(ctx, s)
		return err
	})
	if err != nil {
		return health.NotKnown(err), true
	}
	j.last, j.at, j.changes = c, time.Now(), changes
	return c, true
}

// judgeHolds judges the holds of the fleet: one without an end that is a day old may have been forgotten.
func judgeHolds(_ context.Context, s *overview) (health.Check, error) {
	var held, endless int
	var oldestMs int64
	var forgotten named
	for _, agent := range s.notes {
		v := s.shown[agent].view
		if v.Hold.Kind == "" {
			continue
		}
		if held++; v.Hold.LengthMs > 0 {
			continue
		}
		endless++
		age := s.nowMs - v.Hold.StartMs
		if oldestMs = max(oldestMs, age); age > forgottenAfter.Milliseconds() {
			forgotten.add(agent)
		}
	}
	detail := fmt.Sprintf("%d held, %d of them without an end", held, endless)
	if forgotten.Count == 0 {
		return health.OK("%s", detail).With(health.HoldAge, float64(oldestMs)/1000), nil
	}
	const advice = "lift it (POST …/reset or an action release), or hold it again with timeout_seconds"
	return health.Bad(advice, "%s; %d for more than a day: %s", detail, forgotten.Count, list(forgotten)).
		With(health.HoldAge, float64(oldestMs)/1000), nil
}

// judgeOverrides judges the overrides of the fleet.
func judgeOverrides(ctx context.Context, s *overview) (c health.Check, err error) {
	agents, err := s.names(ctx)
	if err != nil {
		return c, err
	}
	docs, err := s.documentsOf(ctx, agents)
	if err != nil {
		return c, err
	}
	var invalid, ended named
	var overridden int
	var oldest time.Duration
	now := time.UnixMilli(s.nowMs)
	for _, agent := range agents {
		d := docs[agent]
		if !d.overridden {
			continue
		}
		overridden++
		switch {
		case d.problem != "":
			invalid.add(agent)
		case d.ended:
			ended.add(agent)
		case d.record.Until.IsZero() && !d.record.At.IsZero():
			oldest = max(oldest, now.Sub(d.record.At))
		}
	}
	c = health.OK("%d agents have an override", overridden)
	if invalid.Count > 0 {
		c = health.Bad("GET …/{agent}/config says what is wrong: put a valid one, or delete it",
			"%d of %d overrides are not in force, the last good ones are: %s", invalid.Count, overridden, list(invalid))
	}
	if ended.Count > 0 {
		c = c.Warn(fmt.Sprintf("%d overrides have ended, and can be deleted: %s", ended.Count, list(ended)))
	}
	return c.With(health.OverrideAge, oldest.Seconds()).With(health.OverridesNotValid, float64(invalid.Count)), nil
}

// list names what was counted.
func list(n named) string {
	text := strings.Join(n.Names, ", ")
	if n.Count > len(n.Names) {
		text += ", …"
	}
	return text
}
