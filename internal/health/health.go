// Package health judges how well a replica is, and the fleet as far as the replica sees it: one check for each part,
// with its status, since when, what is wrong and what to do about it.
package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Status says how well a replica, or a part of it, is.
type Status string

// The statuses. A degraded replica serves; the health routes of an unhealthy one answer 503.
const (
	Healthy   Status = "healthy"
	Degraded  Status = "degraded"
	Unhealthy Status = "unhealthy"
)

// The scores of a check by its status, and of one that is degraded in what the fleet cannot do without.
const (
	ScoreHealthy   = 1.0
	ScoreDegraded  = 0.6
	ScoreCritical  = 0.3
	scoreUnhealthy = 0.0
)

// Check is one part of a Report.
type Check struct {
	Status    Status   `json:"status"               enum:"healthy,degraded,unhealthy"`
	Since     string   `json:"since"                doc:"Since when it has this status, as far as this replica has looked." format:"date-time"`
	Score     float64  `json:"score"                doc:"healthy: 1, degraded: 0.6, or 0.3 where the fleet cannot do without; unhealthy: 0."`
	LatencyMs *float64 `json:"latency_ms,omitempty" doc:"How long it took to answer."`
	Degraded  bool     `json:"degraded"             doc:"This replica answers from its own memory, because Redis is down."`
	Code      string   `json:"code,omitempty"       doc:"Which fault it is, where the check knows several, as a stable name."`
	Server    string   `json:"server,omitempty"     doc:"The Redis server that it concerns: its address, or the URL without secrets."`
	Detail    string   `json:"detail,omitempty"`
	Advice    string   `json:"advice,omitempty"     doc:"What to do, if it is not healthy."`
	Warnings  []string `json:"warnings,omitempty"   doc:"What works, but should be set otherwise."`
	Unsent    *Unsent  `json:"unsent,omitempty"     doc:"Outcomes that wait until Redis takes them."`

	Figures map[Figure]float64 `json:"-"` // for the metrics
}

// Unsent are outcomes that Redis has not acknowledged yet.
type Unsent struct {
	Outcomes      int64   `json:"outcomes"`
	Agents        int     `json:"agents"`
	OldestSeconds float64 `json:"oldest_seconds" doc:"How long the oldest of them has waited."`
}

// OK is a healthy check.
func OK(format string, args ...any) Check {
	return Check{Status: Healthy, Detail: fmt.Sprintf(format, args...)}
}

// Bad is a degraded check, with what is wrong and what to do.
func Bad(advice, format string, args ...any) Check {
	return Check{Status: Degraded, Advice: advice, Detail: fmt.Sprintf(format, args...)}
}

// NotKnown is the check of what Redis does not tell.
func NotKnown(err error) Check { return Bad("see the check redis", "not known: %v", err) }

// Critical returns c as one that the fleet cannot do without.
func (c Check) Critical() Check {
	c.Score = ScoreCritical
	return c
}

// Named returns c with the stable name of its fault.
func (c Check) Named(code string) Check {
	c.Code = code
	return c
}

// Of returns c as one that concerns a Redis server.
func (c Check) Of(server string) Check {
	c.Server = server
	return c
}

// Warn adds warnings to c, and returns it.
func (c Check) Warn(warnings ...string) Check {
	c.Warnings = append(c.Warnings, warnings...)
	return c
}

// Report is how well a replica is. Its Status is the worst of its checks, its Score the lowest.
type Report struct {
	Status Status
	Score  float64
	Checks map[string]Check // by name: redis, …
}

// makeReport makes a Report of checks: it gives each its score, and sums them up.
func makeReport(checks map[string]Check) Report {
	r := Report{Status: Healthy, Score: ScoreHealthy, Checks: checks}
	for name, c := range checks {
		switch {
		case c.Status == Unhealthy:
			c.Score = scoreUnhealthy
		case c.Status == Healthy:
			c.Score = ScoreHealthy
		case c.Score != ScoreCritical:
			c.Score = ScoreDegraded
		}
		checks[name] = c
		if c.Status == Unhealthy || c.Status == Degraded && r.Status == Healthy {
			r.Status = c.Status
		}
		r.Score = min(r.Score, c.Score)
	}
	return r
}

// Judge makes one check. ok is false if there is nothing to judge, as without a file. It returns soon after ctx ends.
type Judge func(ctx context.Context) (c Check, ok bool)

const (
	// lookEvery is how often a Monitor looks though nobody asks.
	lookEvery = 5 * time.Second
	// judgeWithin is the time of a judge. A look waits a little longer for those that heed it.
	judgeWithin = 1500 * time.Millisecond
	lookWithin  = 2 * time.Second
)

// Monitor looks after the parts of a replica, by itself and when it is asked. It is safe for concurrent use once all
// judges are added.
type Monitor struct {
	judges map[string]Judge

	turn   sync.Mutex // held while it looks
	mu     sync.Mutex
	last   Report
	began  time.Time // the look that last is of
	passed int64
	failed int64
}

// New makes a Monitor without judges.
func New() *Monitor { return &Monitor{judges: map[string]Judge{}} }

// Add adds the judge of a part.
func (m *Monitor) Add(name string, j Judge) { m.judges[name] = j }

// Run looks again and again, until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		m.report(ctx, 0)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Report looks, unless somebody did within maxAge; all who ask while others look share the next look. That takes two
// seconds at most: a judge that has not answered by then is degraded.
func (m *Monitor) Report(ctx context.Context, maxAge time.Duration) Report {
	return m.report(context.WithoutCancel(ctx), maxAge) // others share it
}

func (m *Monitor) report(ctx context.Context, maxAge time.Duration) Report {
	asked := time.Now().Add(-maxAge)
	m.turn.Lock()
	defer m.turn.Unlock()
	m.mu.Lock()
	last, shared := m.last, !m.began.Before(asked)
	m.mu.Unlock()
	if shared {
		return last
	}
	began := time.Now()
	now := makeReport(m.look(ctx))
	if ctx.Err() != nil {
		return last // the program ends: what was not answered by now says nothing
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	stamp := time.Now().UTC().Format(time.RFC3339)
	for name, c := range now.Checks {
		c.Since = stamp
		if before, known := last.Checks[name]; known && before.Status == c.Status {
			c.Since = before.Since
		}
		now.Checks[name] = c
		if c.Status == Healthy {
			m.passed++
		} else {
			m.failed++
		}
	}
	m.last, m.began = now, began
	return now
}

// look asks all judges at once.
func (m *Monitor) look(ctx context.Context) map[string]Check {
	within, cancel := context.WithTimeout(ctx, judgeWithin)
	defer cancel()
	late := time.NewTimer(lookWithin)
	defer late.Stop()
	var mu sync.Mutex
	checks, left := map[string]Check{}, maps.Clone(m.judges)
	done := make(chan struct{}, len(m.judges))
	for name, judge := range m.judges {
		go func() {
			c, ok := safely(within, judge)
			mu.Lock()
			defer mu.Unlock()
			if delete(left, name); ok {
				checks[name] = c
			}
			done <- struct{}{}
		}()
	}
	for range m.judges {
		select {
		case <-done:
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		break
	}
	mu.Lock()
	defer mu.Unlock()
	out := maps.Clone(checks) // who comes late finds nothing to write to
	for name := range left {
		out[name] = Bad("look at the other checks, and at the log", "not known: it did not answer within %s", lookWithin)
	}
	return out
}

// safely is a judge's check; one that panics is degraded.
func safely(ctx context.Context, j Judge) (c Check, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			c, ok = Bad("report it as a fault of ours, with the version", "it cannot be judged: %.200v", v), true
		}
	}()
	return j(ctx)
}

// Last is the newest report, without looking, and how many checks have passed and failed so far.
func (m *Monitor) Last() (r Report, passed, failed int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, m.passed, m.failed
}

// Names are the names of the parts that have a judge, sorted.
func (m *Monitor) Names() []string { return slices.Sorted(maps.Keys(m.judges)) }
