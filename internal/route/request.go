package route

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Request is what an operation is given, and what it says of its answer beside the body.
type Request struct {
	*http.Request

	Agent string         // a valid name; "" where the path has none
	Who   *access.Caller // nil: an operation that is open

	Status int    // of the answer; the operation's, unless it is changed. A 204 has no body
	ETag   string // of the answer; "": none

	w       http.ResponseWriter
	params  []*huma.Param
	claim   string // whom a known caller names as the actor; "": nobody, or himself
	finally []func()
}

// Finally has f called when the answer has been written.
func (r *Request) Finally(f func()) { r.finally = append(r.finally, f) }

func (r *Request) end() {
	for _, f := range r.finally {
		f()
	}
}

// MayTake gives the answer this long, in place of the server's time-outs.
func (r *Request) MayTake(length time.Duration) {
	c := http.NewResponseController(r.w) // only a test's writer has no deadlines
	_ = c.SetReadDeadline(time.Time{})   // when it passes, net/http cancels the request as if the caller had left
	_ = c.SetWriteDeadline(time.Now().Add(length))
}

// Params reads the query, as [Query] does, by the parameters that the operation documents. One that is documented as
// an array may be given several times.
func (r *Request) Params() (url.Values, error) {
	var known, arrays []string
	for _, p := range r.params {
		if p.In != "query" {
			continue
		}
		known = append(known, p.Name)
		if p.Schema.Type == huma.TypeArray {
			arrays = append(arrays, p.Name)
		}
	}
	return query(r.Request, known, arrays)
}

// Query reads the query of a request. It refuses a parameter that is not known, and one that is given twice.
func Query(r *http.Request, known ...string) (url.Values, error) { return query(r, known, nil) }

func query(r *http.Request, known, arrays []string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.BadValue("query", r.URL.RawQuery, "name=value&name=value")
	}
	for name, values := range q {
		want := "one value"
		switch {
		case len(known) == 0:
			want = "no parameters"
		case !slices.Contains(known, name):
			want = "one of " + strings.Join(known, ", ")
		case len(values) == 1, slices.Contains(arrays, name):
			continue
		}
		return nil, problem.BadValue("query."+text.Short(name), strings.Join(values, ","), want)
	}
	return q, nil
}

// MostListed is how many entries a page of a list has, at most and by default. The runbook's jq reads one page, and has
// to see every open breaker.
const MostListed = 1000

// Whole reads a parameter that is a whole number from 1 to most; without it, most.
func Whole(q url.Values, name string, most int) (int, error) {
	value := q.Get(name)
	if value == "" {
		return most, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, problem.BadValue("query."+name, value, "a whole number from 1 to "+strconv.Itoa(most))
	}
	return n, nil
}

// Nobody is the actor of a change whose maker gave no name.
const Nobody = "api"

// SetCookie adds a cookie to the answer.
func (r *Request) SetCookie(c *http.Cookie) { http.SetCookie(r.w, c) }

// Actor is who makes a change: the name that the caller is known by, else whom he claims to be.
func (r *Request) Actor(inBody string) (string, error) {
	claim, err := r.claimed(inBody)
	if err != nil || r.Who == nil || r.Who.Name == "" {
		return claim, err
	}
	if claim != Nobody && claim != r.Who.Name {
		r.claim = claim
	}
	return r.Who.Name, nil
}

// claimed is the actor in the body, else the header X-Actor, else Nobody. The word "-" is none: it stands for the
// breaker itself in an event.
func (r *Request) claimed(inBody string) (string, error) {
	const want = "1 to 64 of A-Z a-z 0-9 . _ : @ -, not - alone"
	if inBody != "" {
		if !breaker.ValidWord(inBody) || inBody == "-" {
			return "", problem.BadValue("body.actor", inBody, want)
		}
		return inBody, nil
	}
	switch values := r.Header.Values("X-Actor"); {
	case len(values) == 0:
		return Nobody, nil
	case len(values) > 1 || !breaker.ValidWord(values[0]) || values[0] == "-":
		return "", problem.BadValue("header.X-Actor", strings.Join(values, ", "), want)
	default:
		return values[0], nil
	}
}
