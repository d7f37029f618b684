package route

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Request is what an operation is given.
type Request struct {
	*http.Request

	Agent string // a valid name; "" where the path has none
	w     http.ResponseWriter
}

// MayTake replaces the server's time-outs for this request: those are for answers that come at once.
func (r *Request) MayTake(length time.Duration) {
	c := http.NewResponseController(r.w)
	_ = c.SetReadDeadline(time.Time{}) // one that passes would look like a caller that left; where there is none, there is nothing to do
	_ = c.SetWriteDeadline(time.Now().Add(length))
}

// Params reads the parameters of the query, each at most once, and none that is not known.
func (r *Request) Params(known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.BadValue("query", r.URL.RawQuery, "name=value&name=value")
	}
	for name, values := range q {
		ok := false
		for _, k := range known {
			ok = ok || k == name
		}
		if !ok {
			return nil, problem.BadValue("query."+text.Short(name), strings.Join(values, ","), "one of "+strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, problem.BadValue("query."+name, strings.Join(values, ","), "one value")
		}
	}
	return q, nil
}

// MostListed is how many entries a page of a list has, at most and by default: the runbook's jq is to see every open breaker.
const MostListed = 1000

// Whole reads a whole number from 1 to most; empty is def.
func Whole(q url.Values, name string, def, most int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, problem.BadValue("query."+name, text, "a whole number from 1 to "+strconv.Itoa(most))
	}
	return n, nil
}

// Actor is who does it: the body's word, else the header's, else "api".
func (r *Request) Actor(inBody string) (string, error) {
	const want = "1 to 64 of A-Z a-z 0-9 . _ : @ -"
	if inBody != "" {
		if !breaker.ValidWord(inBody) {
			return "", problem.BadValue("body.actor", inBody, want)
		}
		return inBody, nil
	}
	switch values := r.Header.Values("X-Actor"); {
	case len(values) == 0:
		return "api", nil
	case len(values) > 1 || !breaker.ValidWord(values[0]):
		return "", problem.BadValue("header.X-Actor", strings.Join(values, ", "), want)
	default:
		return values[0], nil
	}
}
