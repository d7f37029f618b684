package breakerhttp

import (
	"net/http"
	"slices"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Statuses says what HTTP statuses count as, where an agent differs from the default. Failure wins over Ignored. The
// zero value is the default: a status below 400 is a success; 408, 425, 429 and 5xx but 501 are failures; the others
// are the caller's own fault, and ignored.
type Statuses struct {
	Failure []StatusRange
	Ignored []StatusRange
}

// StatusRange is the statuses from From to To, both included. They are from 100 to 999.
type StatusRange struct{ From, To int }

func (r StatusRange) has(status int) bool { return r.From <= status && status <= r.To }

// kind is what a status counts as.
func (s Statuses) kind(status int) breaker.OutcomeKind {
	in := func(ranges []StatusRange) bool {
		return slices.ContainsFunc(ranges, func(r StatusRange) bool { return r.has(status) })
	}
	switch {
	case in(s.Failure):
		return breaker.Failure
	case in(s.Ignored):
		return breaker.Ignored
	case status < 400:
		return breaker.Success
	case status == http.StatusNotImplemented:
		return breaker.Ignored
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests:
		return breaker.Failure
	default:
		return breaker.Ignored
	}
}
