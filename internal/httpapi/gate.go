package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	gatePath         = "/v1/gate/"
	permitHeader     = "x-circuit-breaker-permit" // lower case on the wire, as retry-after
	gateHeader       = "X-Breaker-Gate"
	denyStatusHeader = "X-Breaker-Deny-Status"
	callerHeader     = "X-Circuit-Breaker-Agent" // as bridge sets it
)

// denyStatuses are the statuses that a proxy may ask for: nginx's auth_request, for one, takes only 401 and 403 for a
// refusal.
func denyStatuses() []int {
	return []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}
}

// documentGate documents the gate, which is not on the mux: it takes every method but HEAD, of which GET is shown, and
// below the name any path, which a mux would clean.
func (a *api) documentGate() {
	words := make([]any, 0, len(denyStatuses()))
	for _, s := range denyStatuses() {
		words = append(words, strconv.Itoa(s))
	}
	deny := &huma.Schema{Type: huma.TypeString, Enum: words}
	const about = "The status of a refusal; default: as acquire has it."
	named := route.Operation{
		Route: "GET " + gatePath + "{agent}", ID: "gate", Role: access.Report, Ways: access.Gate,
		Tag: "calls", Refusals: denyStatuses(),
		Summary: "acquire, by any method but HEAD, for proxies that go by a status and headers: nginx, Traefik, Caddy; " +
			"the body is not read",
		Params: []*huma.Param{
			route.QueryParam("deny_status", about, deny),
			{Name: denyStatusHeader, In: "header", Description: about, Schema: deny},
			{
				Name: callerHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
				Description: "The agent that makes the call, if any, as parent_agent of acquire.",
			},
			{
				Name: gateHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"1"}},
				Description: "Needed where breakerd listens on loopback: no page of another site can send it.",
			},
		},
		Headers: map[string]*huma.Param{permitHeader: route.HeaderParam("The permit, which owes one report.", true)},
		Codes: []problem.Code{
			problem.CircuitBreakerOpen, problem.TooManyAgents, problem.StoreUnavailable, problem.GateHeaderRequired,
		},
	}
	below := named
	below.Route, below.ID, below.Params = named.Route+"/{path}", "gateBelow", named.Params[1:]
	below.Summary = "The same for proxies that append the path of the call, as Envoy's ext_authz does; " +
		"path and query are not looked at"
	for _, o := range []route.Operation{named, below} {
		route.Describe[route.None, acquireReply](a.API, &o)
		refused := a.OpenAPI.Paths[strings.TrimPrefix(o.Route, "GET ")].Get.Responses["401"]
		refused.Headers["www-authenticate"] = route.HeaderParam("Of a 401, as it must have one.", false)
	}
}

// gateOr answers what is below gatePath, and hands the rest on.
func (a *api) gateOr(routes http.Handler) http.Handler {
	gate := guard.Private(http.HandlerFunc(a.serveGate))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Path is cheaper to look at, EscapedPath is what was sent.
		if strings.HasPrefix(r.URL.Path, gatePath) && strings.HasPrefix(r.URL.EscapedPath(), gatePath) {
			gate.ServeHTTP(w, r)
			return
		}
		routes.ServeHTTP(w, r)
	})
}

// serveGate is acquire. [guard.SameOrigin] does not check it, for a proxy hands on what its
// caller's browser says of the page. On loopback a header that no such page can send takes the guard's place.
func (a *api) serveGate(w http.ResponseWriter, r *http.Request) {
	out, err := a.passGate(r)
	leaveBody(w, r)
	if err != nil {
		a.Fail(w, r, err)
		return
	}
	w.Header()[permitHeader] = []string{out.Permit}
	route.WriteJSON(w, http.StatusOK, out)
}

// passGate acquires. Only a refusal has the status that the proxy asks for: another problem must not look like one.
func (a *api) passGate(r *http.Request) (out acquireReply, err error) {
	if r.Method == http.MethodHead { // its answer has no body, so nobody would know the permit
		return out, problem.New(problem.MethodNotAllowed, "this path takes every method but HEAD").
			With("Allow", "GET, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	if a.LoopbackOnly && r.Header.Get(gateHeader) != "1" {
		return out, problem.New(problem.GateHeaderRequired,
			"have the proxy set the header %s: 1, without which a web page could call this", gateHeader)
	}
	who, p := a.API.Access.Admit(r, access.Report, access.Gate)
	if p == nil {
		p = a.API.Rate.Take(r, who)
	}
	if p != nil {
		return out, p
	}
	name, _, below := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), gatePath), "/")
	agent, err := url.PathUnescape(name)
	if err != nil || !breaker.ValidName(agent) {
		return out, breaker.ErrBadName
	}
	if err := who.CheckAgent(agent); err != nil {
		return out, err
	}
	deny, err := denyStatus(r, below)
	if err != nil {
		return out, err
	}
	parents := strings.Join(r.Header.Values(callerHeader), ", ")
	if err := parentAgent("header."+callerHeader, parents); err != nil {
		return out, err
	}
	out, err = a.acquire(r.Context(), agent, parents)
	if open, refused := errors.AsType[*breaker.OpenError](err); refused && deny != 0 {
		return out, problem.Refusal(open).WithStatus(deny)
	}
	return out, err
}

// denyStatus is the status of a refusal that the proxy asks for; 0: the refusal's own. Below the name, the query is the
// caller's, and only the header counts.
func denyStatus(r *http.Request, below bool) (int, error) {
	at, values := "header."+denyStatusHeader, r.Header.Values(denyStatusHeader)
	if !below {
		q, err := route.Query(r, "deny_status")
		if err != nil {
			return 0, err
		}
		if q.Has("deny_status") {
			at, values = "query.deny_status", q["deny_status"]
		}
	}
	if len(values) == 0 {
		return 0, nil
	}
	for _, s := range denyStatuses() {
		if len(values) == 1 && values[0] == strconv.Itoa(s) {
			return s, nil
		}
	}
	return 0, problem.BadValue(at, strings.Join(values, ", "), "401, 403, 429 or 503")
}

// bodyGrace is how long a body may go on arriving after the answer. A connection that is closed before may lose the
// answer.
const bodyGrace = time.Second

// leaveBody lets the answer go out before the body has arrived: a proxy may announce its caller's body, and never
// send it.
func leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	c := http.NewResponseController(w) // only a test's writer cannot do this
	_ = c.EnableFullDuplex()
	_ = c.SetReadDeadline(time.Now().Add(bodyGrace))
	w.Header().Set("Connection", "close")
}
