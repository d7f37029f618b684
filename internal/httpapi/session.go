package httpapi

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
)

// whoamiReply is who makes a request.
type whoamiReply struct {
	Name   *string  `json:"name"   doc:"The actor of what is changed; null: nobody is asked who he is here."`
	Role   string   `json:"role"   enum:"read,report,operate,admin"`
	Agents []string `json:"agents" doc:"Patterns of the agents that may be named; null: all."`
	By     *string  `json:"by"     enum:"token,session,certificate"`
	Until  *string  `json:"until"  format:"date-time" doc:"When that ends by itself; null: never."`
}

func (a *api) sessionRoutes() {
	const session = "/v1/session"
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/whoami", ID: "whoami", Role: access.Known, Tag: "session", Summary: "Who makes this request",
	}, func(r *route.Request, _ route.None) (whoamiReply, error) { return whoami(r.Who), nil })
	route.Serve(a.API, route.Operation{
		Route: "POST " + session, ID: "openSession", Role: access.Known, Tag: "session",
		Headers: map[string]*huma.Param{"set-cookie": route.HeaderParam("The session.", false)},
		Summary: "Put a cookie in the token's place, for a page, for 12 hours at most; only a token opens a session",
	}, func(r *route.Request, _ route.None) (whoamiReply, error) {
		out := whoami(r.Who)
		if cookie, until := access.OpenSession(r.Who, r.Request, time.Now()); cookie != nil {
			r.SetCookie(cookie)
			out.Until = view.Stamp(until.UnixMilli())
		}
		return out, nil
	})
	route.Serve(a.API, route.Operation{
		Route: "DELETE " + session, ID: "closeSession", Role: access.Open, Tag: "session", Status: http.StatusNoContent,
		Summary: "Have the browser forget the session's cookie",
	}, func(r *route.Request, _ route.None) (none route.None, err error) {
		r.SetCookie(access.CloseSession(r.Request))
		return none, nil
	})
}

func whoami(who *access.Caller) whoamiReply {
	out := whoamiReply{
		Name: view.TextOrNull(who.Name), Role: string(who.Role), Agents: who.Agents, By: view.TextOrNull(who.By),
	}
	if !who.Until.IsZero() {
		out.Until = view.Stamp(who.Until.UnixMilli())
	}
	return out
}
