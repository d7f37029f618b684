package httpapi

import (
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxReason bounds an operator's reason, in bytes.
const maxReason = 500

// reasonText checks an operator's reason; empty is "manual".
func reasonText(text string) (string, error) {
	if text == "" {
		return "manual", nil
	}
	if len(text) > maxReason || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", problem.BadValue("body.reason", text, "at most 500 bytes of printable text")
	}
	return text, nil
}

// seconds makes a duration, to 1 ms, of a number of seconds; least is the least that is allowed.
func seconds(location string, v float64, least time.Duration) (time.Duration, error) {
	ms := math.Round(v * 1000)
	if math.IsNaN(ms) || ms < float64(least.Milliseconds()) || ms > float64(breaker.MaxDuration.Milliseconds()) {
		return 0, problem.BadValue(location, route.FormatNumber(v), "seconds from "+route.FormatNumber(least.Seconds())+" to "+
			route.FormatNumber(breaker.MaxDuration.Seconds()))
	}
	return time.Duration(ms) * time.Millisecond, nil
}
