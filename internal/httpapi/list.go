package httpapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// What a list is sorted by. In all but agent_id, breakers that are not closed come first.
const (
	sortByState   = "state" // those that are not closed, then those that are, by name each
	sortByName    = "agent_id"
	sortByWorst   = "worst"         // open, half-open, ramping, held closed, closed; the higher failure rate first
	sortByOpened  = "opened_at"     // open for longest first
	sortByUntil   = "timeout_until" // the end of its wait nearest first
	sortByFailure = "failure_rate"  // highest first
)

func sorts() []string {
	return []string{sortByState, sortByName, sortByWorst, sortByOpened, sortByUntil, sortByFailure}
}

// What holds=, override= and include= take.
const (
	anyOne        = "any"
	noneAtAll     = "none"
	holdProtected = "protected"
	invalid       = "invalid"
	withWindow    = "window"
	withProfile   = "profile"
	withOverride  = "override"
	withSeen      = "seen"
	withSeries    = "series"
)

const (
	mostWords   = 32  // of one parameter
	maxSearched = 128 // bytes of a text that is searched for
	mostOffset  = 1_000_000
	// mostCompared is among how many agents the figures of closed breakers count: to know them each has to be read.
	mostCompared = 200
	lastKey      = math.MaxInt64
)

type listReply struct {
	Breakers   []listEntry `json:"circuit_breakers" nullable:"false"`
	NextCursor *string     `json:"next_cursor"      doc:"null: this was the last page."`
	Total      int         `json:"total"            doc:"Breakers that the query finds, on all pages."`
	NowMs      int64       `json:"now_ms"           doc:"Redis' clock when they were read, ms since 1970."`
}

// place is where an agent is in a list: a lower key is nearer to its beginning.
type place struct {
	key  int64
	name string
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.key, q.key), strings.Compare(p.name, q.name))
}

// listQuery is the query of a list.
type listQuery struct {
	states   []breaker.State   // none: all
	holds    []string          // none: held or not
	override string            // "": overridden or not
	labels   map[string]string // all of them
	reason   string            // is in the reason, in lower case
	q        string            // is in the name, in lower case
	modes    []string          // none: all
	ramping  bool              // false: whether they let calls return or not
	sort     string
	include  []string
	limit    int
	offset   int
	after    place
}

func listParams() []*huma.Param {
	word := func(enum ...string) *huma.Schema {
		s := &huma.Schema{Type: huma.TypeString}
		for _, w := range enum {
			s.Enum = append(s.Enum, w)
		}
		return s
	}
	return []*huma.Param{
		route.ArrayParam("state", "Only those in this state.", word("CLOSED", "OPEN", "HALF_OPEN")),
		route.ArrayParam("hold", "Only those under such a hold; none: without one.",
			word("open", "closed", holdProtected, anyOne, noneAtAll)),
		route.QueryParam("override", "Only those with an override in Redis, with one that is not in force, or without.",
			word(anyOne, invalid, noneAtAll)),
		route.ArrayParam("mode", "Only those whose policy does this.", word("enforce", "observe", modeDisabled)),
		route.QueryParam("ramping", "true: only those that let calls return.", word("true", "false")),
		route.QueryParam("label", "Only those with this label, name=value; given again, with each of them.",
			&huma.Schema{Type: huma.TypeArray, Items: word()}),
		route.QueryParam("reason", "Only those whose reason contains this, in either case.", word()),
		route.QueryParam("q", "Only names that contain this, in either case.", word()),
		route.QueryParam("sort", "Default state.", word(sorts()...)),
		route.ArrayParam("include", "Show this too.",
			word(withWindow, withProfile, withOverride, withSeen, withSeries)),
		route.LimitParam(), route.CursorParam(),
		route.QueryParam("offset", "Begin behind so many; not with cursor.",
			&huma.Schema{Type: huma.TypeInteger, Minimum: new(0.0), Maximum: new(float64(mostOffset))}),
	}
}

func readListQuery(r *route.Request) (l listQuery, err error) {
	q, err := r.Params()
	if err != nil {
		return l, err
	}
	if err := l.readFilters("query.", q); err != nil {
		return l, err
	}
	if l.include, err = oneOf("query.", q["include"], "include",
		withWindow, withProfile, withOverride, withSeen, withSeries); err != nil {
		return l, err
	}
	l.sort = cmp.Or(q.Get("sort"), sortByState)
	if !slices.Contains(sorts(), l.sort) {
		return l, problem.BadValue("query.sort", l.sort, "one of "+strings.Join(sorts(), ", "))
	}
	if l.limit, err = route.Whole(q, "limit", route.MostListed); err != nil {
		return l, err
	}
	if l.offset, err = offset(q); err != nil {
		return l, err
	}
	return l, l.readCursor(q.Get("cursor"))
}

// offset reads how many breakers are passed over.
func offset(q url.Values) (n int, err error) {
	text := q.Get("offset")
	if text == "" {
		return 0, nil
	}
	n, err = strconv.Atoi(text)
	if err != nil || n < 0 || n > mostOffset || q.Get("cursor") != "" {
		return 0, problem.BadValue("query.offset", text, "0 to 1000000, without cursor")
	}
	return n, nil
}

// readFilters reads which breakers are meant; in says where the values stand.
func (l *listQuery) readFilters(in string, q url.Values) (err error) {
	states, err := oneOf(in, q["state"], "state", "closed", "open", "half_open")
	for _, word := range states {
		state, _ := machine.ParseState(word)
		l.states = append(l.states, state)
	}
	if err != nil {
		return err
	}
	if l.holds, err = oneOf(in, q["hold"], "hold", "open", "closed", holdProtected, anyOne, noneAtAll); err != nil {
		return err
	}
	override, err := oneOf(in, q["override"], "override", anyOne, invalid, noneAtAll)
	if err != nil {
		return err
	}
	if len(override) > 1 {
		return problem.BadValue(in+"override", q.Get("override"), "one value")
	}
	l.override = strings.Join(override, "")
	if l.modes, err = oneOf(in, q["mode"], "mode", "enforce", "observe", modeDisabled); err != nil {
		return err
	}
	switch text := q.Get("ramping"); text {
	case "", "false":
	case "true":
		l.ramping = true
	default:
		return problem.BadValue(in+"ramping", text, "true or false")
	}
	if err := l.readLabels(in, q["label"]); err != nil {
		return err
	}
	for name, into := range map[string]*string{"q": &l.q, "reason": &l.reason} {
		if *into = strings.ToLower(q.Get(name)); len(*into) > maxSearched {
			return problem.BadValue(in+name, *into, "at most 128 bytes")
		}
	}
	return nil
}

// oneOf reads words of a parameter that is documented as an array: given several times, or with commas between its
// words. Each is one of known, in either case.
func oneOf(in string, values []string, name string, known ...string) (given []string, err error) {
	for _, value := range values {
		if value != "" {
			given = append(given, strings.Split(value, ",")...)
		}
	}
	if len(given) > mostWords {
		return nil, problem.BadValue(in+name, strings.Join(given, ","), "at most "+strconv.Itoa(mostWords)+" values")
	}
	for i, word := range given {
		if given[i] = strings.ToLower(word); !slices.Contains(known, given[i]) {
			return nil, problem.BadValue(in+name, word, "one of "+strings.Join(known, ", "))
		}
	}
	return given, nil
}

// readLabels reads name=value, each parameter one: a value may hold commas.
func (l *listQuery) readLabels(in string, given []string) error {
	const want = "name=value: a name of 1 to 64 of A-Z a-z 0-9 . _ : @ -, a value of at most 256 bytes; 32 at most"
	for _, label := range given {
		name, value, ok := strings.Cut(label, "=")
		if !ok || !breaker.ValidWord(name) || !text.Printable(value, 256) || len(given) > mostWords {
			return problem.BadValue(in+"label", label, want)
		}
		if held, twice := l.labels[name]; twice && held != value {
			return problem.BadValue(in+"label", label, "each name once")
		}
		if l.labels == nil {
			l.labels = map[string]string{}
		}
		l.labels[name] = value
	}
	return nil
}

// readCursor reads where the page before ended; "": this is the first page.
func (l *listQuery) readCursor(cursor string) error {
	if cursor == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	f := strings.Split(string(raw), " ")
	if err == nil && len(f) == 3 && f[0] == l.sort && breaker.ValidName(f[2]) {
		var key int64
		if key, err = strconv.ParseInt(f[1], 10, 64); err == nil && strconv.FormatInt(key, 10) == f[1] {
			l.after = place{key: key, name: f[2]}
			return nil
		}
	}
	return problem.BadValue("query.cursor", cursor, "the next_cursor of a page with the same sort")
}

// cursor is what readCursor reads.
func (l *listQuery) cursor() *string {
	place := l.sort + " " + strconv.FormatInt(l.after.key, 10) + " " + l.after.name
	return new(base64.RawURLEncoding.EncodeToString([]byte(place)))
}

// closedToo reports whether a breaker that is closed and not held can be in the list. It has no reason.
func (l *listQuery) closedToo() bool {
	return (len(l.states) == 0 || slices.Contains(l.states, breaker.Closed)) && l.reason == "" && !l.ramping &&
		(len(l.holds) == 0 || slices.Contains(l.holds, noneAtAll))
}

// takes reports whether a breaker is in the list, as far as that is known without its documents; b is nil for one that
// is closed and was not inspected.
func (l *listQuery) takes(agent string, b *shown) bool {
	if len(l.states) > 0 && !slices.Contains(l.states, b.state()) ||
		l.ramping && !b.ramps() || l.q != "" && !strings.Contains(strings.ToLower(agent), l.q) {
		return false
	}
	if l.reason == "" && len(l.holds) == 0 {
		return true
	}
	var hold machine.Hold
	var reason *string
	if b != nil {
		hold, reason = b.view.Hold, b.entry.Reason
	}
	if l.reason != "" && (reason == nil || !strings.Contains(strings.ToLower(*reason), l.reason)) {
		return false
	}
	return len(l.holds) == 0 || slices.ContainsFunc(l.holds, func(kind string) bool {
		switch kind {
		case anyOne:
			return hold.Kind != ""
		case noneAtAll:
			return hold.Kind == ""
		case holdProtected:
			return hold.Protected == 1
		}
		return string(hold.Kind) == kind
	})
}

// takesDocument is takes for an agent's documents.
func (l *listQuery) takesDocument(d *document) bool {
	for name, value := range l.labels {
		if held, has := d.profile.Labels[name]; !has || held != value {
			return false
		}
	}
	if len(l.modes) > 0 && !slices.Contains(l.modes, d.mode) {
		return false
	}
	switch l.override {
	case anyOne:
		return d.overridden
	case invalid:
		return d.problem != ""
	case noneAtAll:
		return !d.overridden
	}
	return true
}

// key is a breaker's place in the order; b is nil for one that is closed and was not inspected.
func (l *listQuery) key(b *shown) int64 {
	switch state := b.state(); {
	case l.sort == sortByName:
		return 0
	case l.sort == sortByState:
		if state == breaker.Closed {
			return 1
		}
		return 0
	case b == nil:
		return lastKey
	case l.sort == sortByOpened && b.view.OpenedMs > 0:
		return b.view.OpenedMs
	case l.sort == sortByUntil && state == breaker.Open && b.view.DeadlineMs() > 0:
		return b.view.DeadlineMs()
	case l.sort == sortByFailure:
		return -ppm(b)
	case l.sort == sortByWorst:
		rank := int64(4)
		switch {
		case state == breaker.Open:
			rank = 0
		case state == breaker.HalfOpen:
			rank = 1
		case b.ramps():
			rank = 2
		case b.view.Hold.Kind != "":
			rank = 3
		}
		return (rank+1)*2*machine.Million - ppm(b)
	}
	return lastKey
}

// ppm is a breaker's failure rate in millionths.
func ppm(b *shown) int64 { return int64(math.Round(b.entry.FailureRate * machine.Million)) }

// list is GET of all breakers, shown advanced to now [B11].
func (a *api) list(r *route.Request, _ route.None) (out listReply, err error) {
	l, err := readListQuery(r)
	if err != nil {
		return out, err
	}
	err = a.overviews.with(r.Context(), func(ctx context.Context, s *overview) error {
		out, err = s.list(ctx, l)
		return err
	})
	return out, err
}

// list makes one page.
func (s *overview) list(ctx context.Context, l listQuery) (out listReply, err error) {
	out = listReply{Breakers: []listEntry{}, NowMs: s.nowMs}
	places, err := s.places(ctx, l)
	if err != nil {
		return out, err
	}
	out.Total = len(places)
	places = places[min(l.offset, len(places)):]
	if l.after.name != "" {
		next, found := slices.BinarySearchFunc(places, l.after, place.compare)
		if found {
			next++
		}
		places = places[next:]
	}
	for len(places) > 0 {
		chunk := namesOf(places[:min(len(places), l.limit-len(out.Breakers)+1)]) // one more: is there a next page?
		if err := s.inspect(ctx, chunk); err != nil {
			return out, err
		}
		for i, agent := range chunk {
			b := s.shown[agent]
			if !l.takes(agent, b) { // one that was taken to be closed
				out.Total--
				continue
			}
			if len(out.Breakers) == l.limit {
				out.NextCursor = l.cursor()
				return out, s.addMore(ctx, l, out.Breakers)
			}
			entry, err := s.entry(ctx, l, b)
			if err != nil {
				return out, err
			}
			out.Breakers = append(out.Breakers, entry)
			l.after = places[i]
		}
		places = places[len(chunk):]
	}
	return out, s.addMore(ctx, l, out.Breakers)
}

func namesOf(places []place) []string {
	out := make([]string, len(places))
	for i, p := range places {
		out[i] = p.name
	}
	return out
}

// keptOrders is how many queries' orders an overview keeps.
const keptOrders = 16

// places lists, in order, the agents that the query finds. The pages of a query share the list.
func (s *overview) places(ctx context.Context, l listQuery) (out []place, err error) {
	query := fmt.Sprintf("%q %q %q %q %q %q %q %q %t",
		l.states, l.holds, l.override, l.labels, l.reason, l.q, l.sort, l.modes, l.ramping)
	if out, kept := s.orders[query]; kept {
		return out, nil
	}
	if out, err = s.find(ctx, l); err == nil && len(s.orders) < keptOrders {
		s.orders[query] = out
	}
	return out, err
}

// find lists, in order, the agents that the query finds.
func (s *overview) find(ctx context.Context, l listQuery) (out []place, err error) {
	agents := s.notes
	if l.closedToo() {
		if agents, err = s.names(ctx); err != nil {
			return nil, err
		}
	}
	found := make([]string, 0, len(agents))
	for _, agent := range agents {
		if l.takes(agent, s.shown[agent]) {
			found = append(found, agent)
		}
	}
	if len(l.labels) > 0 || l.override != "" || len(l.modes) > 0 {
		docs, err := s.documentsOf(ctx, found)
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(agent string) bool { return !l.takesDocument(docs[agent]) })
	}
	return s.order(ctx, l, found)
}

// order puts agents, which are by name, into the order that the query asks for.
func (s *overview) order(ctx context.Context, l listQuery, agents []string) (out []place, err error) {
	compared := (l.sort == sortByWorst || l.sort == sortByFailure) && len(agents) <= mostCompared
	if compared {
		if err := s.inspect(ctx, agents); err != nil {
			return nil, err
		}
	}
	// Those of the last rank, mostly nearly all, need not be sorted.
	out = make([]place, 0, len(agents))
	var last []place
	lastRank := l.key(nil)
	for _, agent := range agents {
		b := s.shown[agent]
		if b != nil && !b.noted() && !compared {
			b = nil
		}
		if p := (place{key: l.key(b), name: agent}); p.key == lastRank {
			last = append(last, p)
		} else {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, place.compare)
	return append(out, last...), nil
}
