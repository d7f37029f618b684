package httpapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// seriesView is what was called of an agent over a time, in slots of the same length.
type seriesView struct {
	SlotSeconds float64      `json:"slot_seconds"`
	Slots       int          `json:"slots"  doc:"How many slots there are; the last one holds now."`
	Points      []seriesSlot `json:"points" doc:"The slots in which there was a call, the oldest first." nullable:"false"`
}

type seriesSlot struct {
	Slot     int   `json:"slot"     minimum:"0"`
	Calls    int64 `json:"calls"`
	Failures int64 `json:"failures"`
}

const (
	windowSlots   = 30 // of a series that shows the window
	historySlots  = 60 // of one that shows the minutes that HISTORY_MINUTES keeps, at most
	seriesAtOnce  = 16 // histories that are read at the same time
	minuteSeconds = 60
)

// seriesOf is a breaker's series over an hour, where HISTORY_MINUTES keeps that, else over its window.
func (a *api) seriesOf(ctx context.Context, agent string, v breaker.View, p breaker.Policy) (*seriesView, error) {
	if a.HistoryMinutes == 0 || v.Degraded {
		return windowSeries(v, p), nil
	}
	h, err := a.Keys.History(ctx, agent)
	if err != nil {
		return nil, err
	}
	out := &seriesView{SlotSeconds: minuteSeconds, Slots: min(a.HistoryMinutes, historySlots), Points: []seriesSlot{}}
	last := time.UnixMilli(h.NowMs).Truncate(time.Minute).UnixMilli()
	for _, m := range h.Minutes {
		slot := out.Slots - 1 - int((last-m.StartMs)/time.Minute.Milliseconds())
		if slot >= 0 && slot < out.Slots {
			out.add(slot, m.Calls, m.Failures)
		}
	}
	return out, nil
}

// seriesOrWindow is seriesOf, and the window's series where the minutes cannot be read.
func (a *api) seriesOrWindow(ctx context.Context, agent string, v breaker.View, p breaker.Policy) *seriesView {
	if s, err := a.seriesOf(ctx, agent, v, p); err == nil {
		return s
	}
	return windowSeries(v, p)
}

// windowSeries is the series of the window.
func windowSeries(v breaker.View, p breaker.Policy) *seriesView {
	window := p.WindowSize.Milliseconds()
	out := &seriesView{SlotSeconds: p.WindowSize.Seconds() / windowSlots, Slots: windowSlots, Points: []seriesSlot{}}
	for start, c := range v.Buckets {
		if age := v.NowMs - start; age >= 0 && age < window {
			out.add(windowSlots-1-int(age*windowSlots/window), c.Successes+c.Failures, c.Failures)
		}
	}
	slices.SortFunc(out.Points, func(x, y seriesSlot) int { return cmp.Compare(x.Slot, y.Slot) })
	return out
}

func (s *seriesView) add(slot int, calls, failures int64) {
	if calls == 0 {
		return
	}
	if i := slices.IndexFunc(s.Points, func(p seriesSlot) bool { return p.Slot == slot }); i >= 0 {
		s.Points[i].Calls += calls
		s.Points[i].Failures += failures
		return
	}
	s.Points = append(s.Points, seriesSlot{slot, calls, failures})
}

// addSeries adds their series to the breakers of a page, if the query asks for it. Whoever reads the overview shares
// what was read.
func (s *overview) addSeries(ctx context.Context, l listQuery, page []listEntry) error {
	if !slices.Contains(l.include, withSeries) {
		return nil
	}
	return atOnce(seriesAtOnce, len(page), func(i int) (err error) {
		b := s.shown[page[i].AgentID]
		if b.series == nil {
			b.series, err = s.of.api.seriesOf(ctx, page[i].AgentID, b.view, b.policy)
		}
		page[i].Series = b.series
		return err
	})
}
