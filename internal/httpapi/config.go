package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func (a *api) configRoutes() {
	path := oneAdminPath + "/config"
	schema := route.OverrideSchema()
	for name, about := range map[string]string{
		"_by": "Who set it.", "_at": "When.", "_reason": "Why; at most 500 bytes of printable text.",
		"_until": "From then on it does not count.",
	} {
		schema.Properties[name] = &huma.Schema{Type: huma.TypeString, Description: about}
	}
	schema.Properties["_at"].Format, schema.Properties["_until"].Format = "date-time", "date-time"
	schema.Properties["_ended"] = &huma.Schema{Type: huma.TypeBoolean, Description: "It no longer counts."}
	changes := []problem.Code{
		problem.AgentUnknown, problem.StoreUnavailable, problem.PreconditionFailed, problem.PreconditionRequired,
	}
	route.Serve(a.API, route.Operation{
		Route: "GET " + path, ID: "getConfig", Role: access.Read,
		Tag: "configuration", Out: schema, Headers: etagHeader(true),
		Summary: "The agent's policy override in Redis, with its ETag",
		Codes: []problem.Code{
			problem.AgentUnknown, problem.ConfigAbsent, problem.ConfigInvalid, problem.StoreUnavailable,
		},
	}, a.getConfig)
	route.Serve(a.API, route.Operation{
		Route: "PUT " + path, ID: "putConfig", Role: access.Operate, Tag: "configuration", In: schema, Out: schema,
		Summary: "Set it as a whole; also for an agent that is not known yet (201)", Also: []int{http.StatusCreated},
		Params: []*huma.Param{
			route.ActorParam(), ifMatchParam(), ifNoneMatchParam(),
			route.QueryParam("dry_run", "1: check all of it, and change nothing.",
				&huma.Schema{Type: huma.TypeString, Enum: []any{"0", "1"}}),
		},
		Codes: changes, Headers: etagHeader(true), Example: `{"failure_threshold": 3, "timeout_seconds": 30}`,
	}, a.putConfig)
	route.Serve(a.API, route.Operation{
		Route: "DELETE " + path, ID: "deleteConfig", Role: access.Operate,
		Tag: "configuration", Status: http.StatusNoContent,
		Summary: "Remove it: registry, environment and defaults count again",
		Params:  []*huma.Param{route.ActorParam(), ifMatchParam()}, Codes: append(changes, problem.ConfigAbsent),
	}, a.deleteConfig)
}

func configAbsent(agent string) error {
	p := problem.New(problem.ConfigAbsent, "agent %s has no override; its policy is at %s/%s", agent, adminPath, agent)
	p.Agent = agent
	return p
}

func (a *api) getConfig(r *route.Request, _ route.None) (out configReply, err error) {
	record, err := a.Directory.Override(r.Context(), r.Agent)
	if err != nil {
		return out, err
	}
	if record == "" {
		if err := a.known(r); err != nil {
			return out, err
		}
		return out, configAbsent(r.Agent)
	}
	r.ETag = etagOf(record)
	if out.Record, err = policy.ParseRecord([]byte(record)); err != nil { // an external edit
		return out, problem.New(problem.ConfigInvalid, "the override in Redis is not valid and not in force: %s",
			text.Clip(err.Error(), route.MaxMessage)).With("ETag", r.ETag)
	}
	return out, nil
}

func (a *api) putConfig(r *route.Request, in json.RawMessage) (out configReply, err error) {
	now := time.Now()
	q, err := r.Params()
	if err != nil {
		return out, err
	}
	dry := q.Get("dry_run")
	if dry != "" && dry != "0" && dry != "1" {
		return out, problem.BadValue("query.dry_run", dry, "0 or 1")
	}
	out.Record, err = policy.ParseRecord(in)
	if err == nil {
		err = a.Policies.Check(r.Context(), r.Agent, out.Override)
	}
	if err == nil && out.Ended(now) {
		err = &breaker.PolicyError{
			Field: "_until", Value: out.Until.Format(time.RFC3339), Allowed: "a time that is to come",
		}
	}
	if err != nil {
		return out, overrideProblem(err)
	}
	out.At = now
	if out.By, err = r.Actor(""); err != nil {
		return out, err
	}
	record, err := json.Marshal(out.Record)
	if err != nil {
		return out, err
	}
	if dry == "1" {
		current, err := a.Directory.Override(r.Context(), r.Agent)
		if err != nil {
			return out, err
		}
		r.ETag = etagOf(string(record))
		return out, precondition(r, current)
	}
	if err := a.change(r, a.Directory.Override, a.Directory.PutOverride, string(record)); err != nil {
		return out, err
	}
	a.Policies.Refresh(r.Context(), r.Agent)
	r.ETag = etagOf(string(record))
	return out, nil
}

// configReply is an override as it is shown: what getConfig gives can be sent back whole.
type configReply struct{ policy.Record }

// MarshalJSON implements [json.Marshaler].
func (c configReply) MarshalJSON() ([]byte, error) {
	out, err := c.Record.MarshalJSON()
	if err == nil && c.Ended(time.Now()) {
		out = append(bytes.TrimSuffix(out, []byte("}")), `,"_ended":true}`...)
	}
	return out, err
}

func (a *api) deleteConfig(r *route.Request, _ route.None) (none route.None, err error) {
	if err := a.known(r); err != nil {
		return none, err
	}
	if err := a.change(r, a.Directory.Override, a.Directory.PutOverride, ""); err != nil {
		return none, err
	}
	a.Policies.Refresh(r.Context(), r.Agent)
	return none, nil
}

// change replaces a document if the request's precondition holds. A new document is answered with 201; text "" deletes
// the document, which has to exist.
func (a *api) change(r *route.Request, get func(context.Context, string) (string, error),
	put func(ctx context.Context, agent, expected, text, actor string) error, text string,
) error {
	actor, err := r.Actor("")
	if err != nil {
		return err
	}
	current, err := get(r.Context(), r.Agent)
	if err != nil {
		return err
	}
	if err := precondition(r, current); err != nil {
		return err
	}
	switch {
	case current == "" && text == "":
		return configAbsent(r.Agent)
	case current == "":
		r.Status = http.StatusCreated
	}
	err = put(r.Context(), r.Agent, current, text, actor)
	if errors.Is(err, ErrConflict) {
		return problem.New(problem.PreconditionFailed, "it was changed meanwhile: read it again")
	}
	return err
}

// etagOf is the strong tag of a document's text; "" for a document that does not exist.
func etagOf(text string) string {
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// precondition compares If-Match and If-None-Match with the current text.
func precondition(r *route.Request, current string) error {
	etag := etagOf(current)
	match := strings.Join(r.Header.Values("If-Match"), ",")
	noneMatch := strings.Join(r.Header.Values("If-None-Match"), ",")
	changed := problem.New(problem.PreconditionFailed, "it is not what you read: read it again")
	if etag != "" {
		changed = changed.With("ETag", etag)
	}
	switch {
	case noneMatch != "" && noneMatch != "*":
		return problem.BadValue("header.If-None-Match", noneMatch, "*")
	case noneMatch == "*" && etag != "":
		return changed
	case match == "" && etag != "":
		return problem.New(problem.PreconditionRequired, "it exists: send If-Match with the ETag that you read").
			With("ETag", etag)
	case match != "" && !matches(match, etag):
		return changed
	}
	return nil
}

// matches reports whether a list of tags has etag, compared strongly. The tag * matches every document that exists.
func matches(list, etag string) bool {
	if etag == "" {
		return false
	}
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag {
			return true
		}
	}
	return false
}

func etagHeader(always bool) map[string]*huma.Param {
	return map[string]*huma.Param{"etag": route.HeaderParam("For If-Match.", always)}
}

func ifMatchParam() *huma.Param {
	return &huma.Param{
		Name: "If-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "The ETag that was read; needed to change what exists.",
	}
}

func ifNoneMatchParam() *huma.Param {
	return &huma.Param{
		Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"*"}},
		Description: "* creates, and refuses to replace.",
	}
}

// overrideProblem names each bad value of an override.
func overrideProblem(err error) error {
	if errors.Is(err, breaker.ErrStoreUnavailable) {
		return err
	}
	p := problem.New(problem.InvalidValue, "the override is not valid")
	var joined interface{ Unwrap() []error }
	errs := []error{err}
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}
	for _, e := range errs {
		f := problem.FieldError{Location: "body", Message: text.Clip(e.Error(), route.MaxMessage)}
		if bad, ok := errors.AsType[*breaker.PolicyError](e); ok {
			f.Location, f.Message = "body."+text.Short(bad.Field), "want "+bad.Allowed
			f.Value = text.Short(bad.Value)
		}
		p.Errors = append(p.Errors, f)
	}
	return p
}
