package registry

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// DefaultIdleTimeout is how long an unused connection to an agent is kept. Common servers close one after five seconds.
const DefaultIdleTimeout = 4 * time.Second

// Bounds of the lists.
const (
	maxRanges   = 32 // of statuses
	maxCounted  = 32 // methods, or prefixes
	maxMethod   = 32 // bytes
	maxPrefix   = 500
	minStatus   = 100
	maxStatus   = 999
	statusWant  = `a status from 100 to 999, as 401, or a range, as "500-599"`
	secondsWant = "seconds from 0.001 to 3600, to 0.001"
)

// Count says which calls of an agent its breaker counts. The zero Count is for all but those with the methods OPTIONS
// and HEAD, which no Count counts.
type Count struct {
	Methods      []string `json:"methods,omitzero"       doc:"In upper case, neither OPTIONS nor HEAD; without them, any method."      minItems:"1" maxItems:"32" nullable:"false"`
	PathPrefixes []string `json:"path_prefixes,omitzero" doc:"How the path after the agent's own begins, decoded; without them, any path." minItems:"1" maxItems:"32" nullable:"false"`
}

// Counts reports whether a call is counted. The path is what follows the agent's own, escaped as in a request; "" is
// "/". Prefixes are compared with it as text, its escapes decoded once, as a server does: /v1 is also how /v10 begins.
func (c Count) Counts(method, path string) bool {
	if method == http.MethodOptions || method == http.MethodHead {
		return false
	}
	if c.Methods != nil && !slices.Contains(c.Methods, cmp.Or(method, http.MethodGet)) {
		return false
	}
	if c.PathPrefixes == nil {
		return true
	}
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	begins := func(prefix string) bool { return strings.HasPrefix(cmp.Or(path, "/"), prefix) }
	return slices.ContainsFunc(c.PathPrefixes, begins)
}

// Calls is the part of a Form that says how calls are judged, counted and bounded, each left out where it is the
// default. It is exported for huma, which documents embedded fields of exported types only.
type Calls struct {
	ClassifyObserve *breakerhttp.BodyClassifier `json:"classify_observe,omitempty"            doc:"What another classifier would have said is counted, and nothing else is done; default none."`
	FailureStatuses []any                       `json:"failure_statuses,omitempty"            doc:"Statuses that are failures too, as 401, and ranges, as \"500-599\"." maxItems:"32" nullable:"false"`
	IgnoredStatuses []any                       `json:"ignored_statuses,omitempty"            doc:"Statuses that do not count, likewise; none of failure_statuses." maxItems:"32" nullable:"false"`
	FirstToken      *float64                    `json:"first_token_timeout_seconds,omitempty" doc:"How long the first data of an answer's body may take; default no bound of its own." minimum:"0.001" maximum:"3600"`
	IdleTimeout     *float64                    `json:"idle_timeout_seconds,omitempty"        doc:"How long an unused connection is kept, at most; default 4."                                 minimum:"0.001" maximum:"3600"`
	Count           *Count                      `json:"count,omitempty"                       doc:"The calls that count; default all but OPTIONS and HEAD, which never do."`
}

// calls returns what is not the default.
func (a Agent) calls() Calls {
	var c Calls
	if a.ClassifyObserve != "" {
		c.ClassifyObserve = &a.ClassifyObserve
	}
	c.FailureStatuses, c.IgnoredStatuses = statusForms(a.Statuses.Failure), statusForms(a.Statuses.Ignored)
	if a.FirstToken != 0 {
		c.FirstToken = new(inSeconds(a.FirstToken))
	}
	if a.IdleTimeout != 0 && a.IdleTimeout != DefaultIdleTimeout {
		c.IdleTimeout = new(inSeconds(a.IdleTimeout))
	}
	if a.Count.Methods != nil || a.Count.PathPrefixes != nil {
		c.Count = &a.Count
	}
	return c
}

// Or returns c with what other says where c is silent.
func (c Calls) Or(other Calls) Calls {
	out := Calls{
		ClassifyObserve: cmp.Or(c.ClassifyObserve, other.ClassifyObserve),
		FailureStatuses: c.FailureStatuses, IgnoredStatuses: c.IgnoredStatuses,
		FirstToken: cmp.Or(c.FirstToken, other.FirstToken), IdleTimeout: cmp.Or(c.IdleTimeout, other.IdleTimeout),
		Count: cmp.Or(c.Count, other.Count),
	}
	if out.FailureStatuses == nil {
		out.FailureStatuses = other.FailureStatuses
	}
	if out.IgnoredStatuses == nil {
		out.IgnoredStatuses = other.IgnoredStatuses
	}
	return out
}

// inSeconds is not d.Seconds(), which does not make 0.3 of 0.3 s.
func inSeconds(d time.Duration) float64 { return float64(d) / float64(time.Second) }

func statusForms(ranges []breakerhttp.StatusRange) (out []any) {
	for _, r := range ranges {
		if r.From == r.To {
			out = append(out, r.From)
		} else {
			out = append(out, fmt.Sprintf("%d-%d", r.From, r.To))
		}
	}
	return out
}

// statuses parses a list of statuses, none of which is in others, the list of the other field.
func (p *parser) statuses(v jsondoc.Value, others []breakerhttp.StatusRange, other string) (
	out []breakerhttp.StatusRange,
) {
	if v.Kind() != jsondoc.Array {
		p.refuse(v, "an array of statuses, as [401, \"500-599\"]")
		return nil
	}
	for m := range v.Members() {
		r, ok := statusRange(m.Value)
		overlaps := func(o breakerhttp.StatusRange) bool { return r.From <= o.To && o.From <= r.To }
		switch {
		case len(out) == maxRanges:
			p.Addf(v, "want at most %d statuses and ranges", maxRanges)
			return out
		case !ok:
			p.refuse(m.Value, statusWant)
		case slices.ContainsFunc(others, overlaps):
			p.Addf(m.Value, "%s is in %s too: want each status in one of them", m.Show(), other)
		default:
			out = append(out, r)
		}
	}
	return out
}

func statusRange(v jsondoc.Value) (r breakerhttp.StatusRange, ok bool) {
	from, to := v.Raw(), v.Raw()
	if v.Kind() == jsondoc.Text {
		from, to, _ = strings.Cut(v.Text(), "-")
	}
	r.From, ok = status(from)
	if !ok {
		return r, false
	}
	r.To, ok = status(to)
	return r, ok && r.From <= r.To
}

// status parses three digits.
func status(digits string) (n int, ok bool) {
	n, err := strconv.Atoi(digits)
	return n, err == nil && len(digits) == 3 && n >= minStatus && n <= maxStatus
}

func (p *parser) count(v jsondoc.Value) (c Count) {
	const want = `an object, {"methods": ["POST"], "path_prefixes": ["/v1/"]}, with one of them at least`
	if v.Kind() != jsondoc.Object {
		p.refuse(v, want)
		return c
	}
	empty := true
	for m := range v.Members() {
		switch empty = false; m.Name {
		case "methods":
			c.Methods = p.list(m.Value, validMethod, "a method in upper case, as POST; OPTIONS and HEAD never count")
		case "path_prefixes":
			c.PathPrefixes = p.list(m.Value, validPrefix, fmt.Sprintf(
				"how a path begins, from its / on, decoded (no %%, ? and #), at most %d bytes of printable text", maxPrefix))
		default:
			p.Addf(m.Key, "unknown field: want one of methods, path_prefixes")
		}
	}
	if empty {
		p.Addf(v, "empty: want %s", want)
	}
	return c
}

// list parses an array of 1 to 32 texts.
func (p *parser) list(v jsondoc.Value, ok func(string) bool, want string) (out []string) {
	n := 0
	for m := range v.Members() {
		if n++; v.Kind() == jsondoc.Array && n <= maxCounted {
			out = append(out, p.text(m.Value, ok, want))
		}
	}
	if v.Kind() != jsondoc.Array || n == 0 || n > maxCounted {
		p.Addf(v, "want an array of 1 to %d texts", maxCounted)
	}
	return out
}

func validMethod(s string) bool {
	return httpguts.ValidHeaderFieldName(s) && s == strings.ToUpper(s) && len(s) <= maxMethod &&
		s != http.MethodOptions && s != http.MethodHead
}

func validPrefix(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.ContainsAny(s, "%?#") && text.Printable(s, maxPrefix)
}
