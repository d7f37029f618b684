package httpapi

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/pkg/breaker"
)

const permitHeader = "x-circuit-breaker-permit" // lower case on the wire, as the other headers of ours

// denyStatuses are the refusals that a proxy may ask for: nginx's auth_request, for one, takes only 401 and 403 for a refusal.
func denyStatuses() []int {
	return []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}
}

func (a *api) gateRoute() {
	words := make([]any, 0, len(denyStatuses()))
	for _, s := range denyStatuses() {
		words = append(words, strconv.Itoa(s))
	}
	serve(a.server, endpoint{
		method: http.MethodGet, path: "/v1/gate/{agent}", id: "gate", tag: "calls",
		summary: "acquire, for proxies that go by a status and headers: nginx, Traefik, Caddy, Envoy",
		params: []*huma.Param{queryParam("deny_status", "The status of a refusal; default: as acquire has it.",
			&huma.Schema{Type: huma.TypeString, Enum: words})},
		headers: map[string]*huma.Param{permitHeader: headerParam("The permit, which owes one report.", true)},
		codes:   []code{codeCircuitBreakerOpen, codeStoreUnavailable}, refusals: denyStatuses(),
	}, a.gate)
}

// gate is acquire; what else may go wrong than a refusal keeps its own status, so that it is not taken for one.
func (a *api) gate(r *request, _ none) (out answer[acquireReply], err error) {
	q, err := r.query("deny_status")
	if err != nil {
		return out, err
	}
	deny := 0
	for _, s := range denyStatuses() {
		if q.Get("deny_status") == strconv.Itoa(s) {
			deny = s
		}
	}
	if deny == 0 && q.Has("deny_status") {
		return out, badValue("query.deny_status", q.Get("deny_status"), "401, 403, 429 or 503")
	}
	out.body, err = a.acquire(r.ctx(), r.agent)
	if open, refused := errors.AsType[*breaker.OpenError](err); refused && deny != 0 {
		return out, refusal(open).as(deny)
	}
	out.header = map[string]string{permitHeader: out.body.Permit}
	return out, err
}
