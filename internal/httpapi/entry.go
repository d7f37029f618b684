package httpapi

import (
	"context"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/view"
)

// listEntry is one breaker of a list.
type listEntry struct {
	view.BreakerEntry
	Window   *windowView   `json:"window,omitempty"  doc:"With include=window: what its window holds now."`
	Profile  *profileView  `json:"profile,omitempty" doc:"With include=profile: what people say of the agent."`
	Override *overrideView `json:"override,omitempty" doc:"With include=override: who set its override, until when, and whether it is in force."`
	Series   *seriesView   `json:"series,omitempty"  doc:"With include=series: its calls over an hour, where HISTORY_MINUTES keeps that, else over its window."`
	Mode     string        `json:"mode"              doc:"What its policy does." enum:"enforce,observe,disabled"`
	LastSeen *string       `json:"last_seen,omitempty" doc:"With include=seen: when it was last called, to a minute." format:"date-time"`
}

// overrideView is what there is to say of an override beside its values, which GET …/config shows.
type overrideView struct {
	By      *string `json:"by"`
	At      *string `json:"at"      doc:"When it was set; null: nobody knows."        format:"date-time"`
	Until   *string `json:"until"   doc:"When it stops to count; null: it has no end." format:"date-time"`
	Reason  *string `json:"reason"`
	Ended   bool    `json:"ended"   doc:"It no longer counts."`
	Problem *string `json:"problem" doc:"Why it is not in force; null: it is, or has ended."`
}

type windowView struct {
	Seconds   float64 `json:"seconds"   doc:"How far back it looks."`
	Calls     int64   `json:"calls"`
	Successes int64   `json:"successes"`
	Failures  int64   `json:"failures"`
	Slow      int64   `json:"slow"`
}

type profileView struct {
	Contact *string           `json:"contact"`
	URL     *string           `json:"url"`
	Labels  map[string]string `json:"labels"  nullable:"false"`
}

// entry shows a breaker with what the query asks for besides.
func (s *overview) entry(ctx context.Context, l listQuery, b *shown) (e listEntry, err error) {
	e.BreakerEntry, e.Mode = b.entry, modeOf(b.policy, nil)
	if slices.Contains(l.include, withWindow) {
		w := b.view.Window(b.view.NowMs, b.policy.WindowSize.Milliseconds())
		e.Window = &windowView{
			Seconds: b.policy.WindowSize.Seconds(), Calls: w.Successes + w.Failures,
			Successes: w.Successes, Failures: w.Failures, Slow: w.Slow,
		}
	}
	if slices.Contains(l.include, withProfile) {
		docs, err := s.documentsOf(ctx, []string{e.AgentID})
		if err != nil {
			return e, err
		}
		p := docs[e.AgentID].profile
		e.Profile = &profileView{Contact: view.TextOrNull(p.Contact), URL: view.TextOrNull(p.URL), Labels: p.Labels}
		if e.Profile.Labels == nil {
			e.Profile.Labels = map[string]string{}
		}
	}
	if slices.Contains(l.include, withOverride) {
		docs, err := s.documentsOf(ctx, []string{e.AgentID})
		if err != nil {
			return e, err
		}
		e.Override = docs[e.AgentID].shownOverride()
	}
	return e, nil
}

// addMore adds to the breakers of a page what is read of all of them at once.
func (s *overview) addMore(ctx context.Context, l listQuery, page []listEntry) error {
	if err := s.addSeries(ctx, l, page); err != nil {
		return err
	}
	return s.addSeen(ctx, l, page)
}

// addSeen adds when the agents of a page were last called, if the query asks for it.
func (s *overview) addSeen(ctx context.Context, l listQuery, page []listEntry) error {
	if !slices.Contains(l.include, withSeen) {
		return nil
	}
	agents := make([]string, len(page))
	for i := range page {
		agents[i] = page[i].AgentID
	}
	seen, err := s.of.api.Directory.EachSeen(ctx, agents)
	if err != nil {
		return err
	}
	for i, at := range seen {
		page[i].LastSeen = stampOrNull(at)
	}
	return nil
}

// stampOrNull is null for the zero time.
func stampOrNull(at time.Time) *string {
	if at.IsZero() {
		return nil
	}
	return view.Stamp(at.UnixMilli())
}

// shownOverride says of an override what its values do not; nil: there is none.
func (d *document) shownOverride() *overrideView {
	if !d.overridden {
		return nil
	}
	return &overrideView{
		By: view.TextOrNull(d.record.By), At: stampOrNull(d.record.At), Until: stampOrNull(d.record.Until),
		Reason: view.TextOrNull(d.record.Reason), Ended: d.ended, Problem: view.TextOrNull(d.problem),
	}
}
