package httpapi

import (
	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/webhook"
)

type webhooksReply struct {
	Webhooks []webhook.View `json:"webhooks" doc:"By name." nullable:"false"`
}

func (a *api) webhookRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/webhooks", ID: "listWebhooks", Role: access.Read, Tag: "fleet",
		Summary: "The webhooks of this replica's file: who sends, how far, what was given up",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.InvalidValue},
	}, a.webhooks)
}

func (a *api) webhooks(r *route.Request, _ route.None) (out webhooksReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	out.Webhooks = []webhook.View{}
	if a.Webhooks != nil {
		out.Webhooks, err = a.Webhooks(r.Context())
	}
	return out, err
}
