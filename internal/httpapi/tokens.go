package httpapi

import (
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
)

type tokensReply struct {
	File    *string     `json:"file"    doc:"AUTH_FILE of this replica; null: there is none."`
	Problem string      `json:"problem,omitempty" doc:"Why the file as it is now is not in force; the last good one is."`
	Tokens  []tokenView `json:"tokens"  nullable:"false" doc:"In the order of the file. No token, and no hash of one, is shown."`
}

type tokenView struct {
	Name      string   `json:"name"`
	Role      string   `json:"role"       enum:"read,report,operate,admin"`
	Agents    []string `json:"agents"     doc:"Patterns of the agents that it may name; empty: all." nullable:"false"`
	ExpiresAt *string  `json:"expires_at" format:"date-time" doc:"null: it does not expire."`
	Expired   bool     `json:"expired"`
	Token     bool     `json:"token"      doc:"A token stands for it."`
	Subject   *string  `json:"subject"    doc:"Of the client certificate that stands for it; null: none does."`
}

func (a *api) tokensRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/tokens", ID: "listTokens", Role: access.Admin, Tag: "access",
		Summary: "Who is in AUTH_FILE, with what he may do",
		Codes:   []problem.Code{problem.InvalidValue},
	}, a.tokens)
}

func (a *api) tokens(r *route.Request, _ route.None) (out tokensReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	out.Tokens = []tokenView{}
	if a.Options.Access == nil || a.Options.Access.Path() == "" {
		return out, nil
	}
	out.File = view.TextOrNull(a.Options.Access.Path())
	if err := a.Options.Access.Problem(); err != nil {
		out.Problem = err.Error()
	}
	now := time.Now()
	for _, e := range a.Options.Access.Entries() {
		v := tokenView{
			Name: e.Name, Role: string(e.Role), Agents: e.Agents, Expired: e.Expired(now), Token: e.HasToken,
			Subject: view.TextOrNull(e.Subject),
		}
		if v.Agents == nil {
			v.Agents = []string{}
		}
		if !e.Until.IsZero() {
			v.ExpiresAt = view.Stamp(e.Until.UnixMilli())
		}
		out.Tokens = append(out.Tokens, v)
	}
	return out, nil
}
