package health

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func judge(c *Check, ok *bool) Judge { return func(context.Context) (Check, bool) { return *c, *ok } }

func TestMonitor_SaysSinceWhenAndCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New()
		c, there, other := OK("fine"), true, false
		m.Add("a", judge(&c, &there))
		m.Add("b", judge(new(OK("fine")), &other))
		start := time.Now().UTC().Format(time.RFC3339)
		if r := m.Report(t.Context(), 0); r.Status != Healthy || r.Score != 1 || len(r.Checks) != 1 || r.Checks["a"].Since != start {
			t.Errorf("%+v", r)
		}
		c = Bad("do", "broken %d", 7)
		if r := m.Report(t.Context(), 0); r.Status != Healthy {
			t.Errorf("looked again at the same instant: %+v", r)
		}
		time.Sleep(2 * time.Second)
		broken := time.Now().UTC().Format(time.RFC3339)
		r := m.Report(t.Context(), 0)
		if got := r.Checks["a"]; r.Status != Degraded || r.Score != 0.6 || got.Since != broken || got.Detail != "broken 7" || got.Advice != "do" {
			t.Errorf("%+v", r)
		}
		time.Sleep(2 * time.Second)
		c = Bad("do", "still").Critical()
		if r := m.Report(t.Context(), 0); r.Score != 0.3 || r.Checks["a"].Since != broken {
			t.Errorf("%+v", r)
		}
		time.Sleep(2 * time.Second)
		c = Check{Status: Unhealthy}
		if r := m.Report(t.Context(), 0); r.Status != Unhealthy || r.Score != 0 {
			t.Errorf("%+v", r)
		}
		last, passed, failed := m.Last()
		if last.Status != Unhealthy || passed != 1 || failed != 3 {
			t.Errorf("%+v %d %d", last, passed, failed)
		}
	})
}

func TestMonitor_JudgeThatHangsOrPanicsIsDegraded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New()
		m.Add("hangs", func(context.Context) (Check, bool) { time.Sleep(time.Hour); return OK("late"), true })
		m.Add("panics", func(context.Context) (Check, bool) { panic("at the judge") })
		m.Add("waits", func(ctx context.Context) (Check, bool) { <-ctx.Done(); return OK("in time"), true })
		m.Add("fine", func(context.Context) (Check, bool) { return OK(""), true })
		m.Add("unknown", func(context.Context) (Check, bool) { return NotKnown(errors.New("down")), true })
		begin := time.Now()
		r := m.Report(t.Context(), 0)
		if took := time.Since(begin); took != lookWithin {
			t.Errorf("took %s", took)
		}
		for name, want := range map[string]Status{"hangs": Degraded, "panics": Degraded, "fine": Healthy, "waits": Healthy, "unknown": Degraded} {
			if r.Checks[name].Status != want {
				t.Errorf("%s: %+v", name, r.Checks[name])
			}
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestMonitor_RunLooksByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New()
		looked := 0
		m.Add("a", func(context.Context) (Check, bool) { looked++; return OK(""), true })
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		time.Sleep(3*lookEvery - time.Second)
		synctest.Wait()
		cancel()
		if looked != 3 {
			t.Errorf("looked %d times", looked)
		}
	})
}
