package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// etagOf is the strong tag of a document's text; "" for a document that does not exist.
func etagOf(text string) string {
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// precondition compares If-Match and If-None-Match with the text that stands there.
func (r *request) precondition(current string) error {
	etag := etagOf(current)
	match, noneMatch := strings.Join(r.Header.Values("If-Match"), ","), strings.Join(r.Header.Values("If-None-Match"), ",")
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
		return problem.New(problem.PreconditionRequired, "it exists: send If-Match with the ETag that you read").With("ETag", etag)
	case match != "" && !matches(match, etag):
		return changed
	}
	return nil
}

// matches says whether one of a list of tags is etag, compared strongly; * is any that exists.
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
	return map[string]*huma.Param{"etag": headerParam("For If-Match.", always)}
}

func (a *api) configRoutes() {
	path := oneAdminPath + "/config"
	schema := overrideSchema()
	changes := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.PreconditionFailed, problem.PreconditionRequired}
	serve(a.server, endpoint{
		method: http.MethodGet, path: path, id: "getConfig", tag: "configuration", out: schema, headers: etagHeader(true),
		summary: "The agent's policy override in Redis, with its ETag",
		codes:   []problem.Code{problem.AgentUnknown, problem.ConfigAbsent, problem.ConfigInvalid, problem.StoreUnavailable},
	}, a.getConfig)
	serve(a.server, endpoint{
		method: http.MethodPut, path: path, id: "putConfig", tag: "configuration", in: schema, out: schema, body: requiredBody,
		summary: "Set it as a whole; also for an agent that is not known yet (201)",
		params:  []*huma.Param{actorParam(), ifMatchParam(), ifNoneMatchParam()}, codes: append(changes, problem.BodyRequired),
		also: []int{http.StatusCreated}, headers: etagHeader(true), example: `{"failure_threshold": 3, "timeout_seconds": 30}`,
	}, a.putConfig)
	serve(a.server, endpoint{
		method: http.MethodDelete, path: path, id: "deleteConfig", tag: "configuration", status: http.StatusNoContent,
		summary: "Remove it: registry, environment and defaults count again", params: []*huma.Param{actorParam(), ifMatchParam()},
		codes: append(changes, problem.ConfigAbsent),
	}, a.deleteConfig)
}

// overrideSchema documents an override; policy.Parse is what checks one.
func overrideSchema() *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{}}
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		kind := huma.TypeNumber
		switch f.Value.(type) {
		case bool:
			kind = huma.TypeBoolean
		case int:
			kind = huma.TypeInteger
		case string:
			kind = huma.TypeString
		}
		s.Properties[f.Name] = &huma.Schema{Type: kind, Description: f.Allowed, Default: f.Value}
	}
	return s
}

func configAbsent(agent string) *problem.Problem {
	p := problem.New(problem.ConfigAbsent, "agent %s has no override; its policy stands at %s/%s", agent, adminPath, agent)
	p.Agent = agent
	return p
}

func (a *api) getConfig(r *request, _ none) (out answer[json.RawMessage], err error) {
	record, err := a.Directory.Override(r.ctx(), r.agent)
	if err != nil {
		return out, err
	}
	if record == "" {
		if err := a.known(r); err != nil {
			return out, err
		}
		return out, configAbsent(r.agent)
	}
	override, err := policy.Parse([]byte(record))
	if err != nil { // a hand wrote it
		p := problem.New(problem.ConfigInvalid, "the override in Redis is not valid and not in force: %s", text.Clip(err.Error(), maxMessage))
		return out, p.With("ETag", etagOf(record))
	}
	return answerOverride(override, record)
}

func answerOverride(o policy.Override, text string) (out answer[json.RawMessage], err error) {
	out.etag = etagOf(text)
	out.body, err = json.Marshal(o)
	return out, err
}

func (a *api) putConfig(r *request, in json.RawMessage) (out answer[json.RawMessage], err error) {
	override, err := policy.Parse(in)
	if err == nil {
		err = a.Policies.Check(r.ctx(), r.agent, override)
	}
	if err != nil {
		return out, overrideProblem(err)
	}
	canonical, err := json.Marshal(override)
	if err != nil {
		return out, err
	}
	created, err := a.change(r, a.Directory.Override, a.Directory.PutOverride, string(canonical))
	if err != nil {
		return out, err
	}
	a.Policies.Refresh(r.ctx(), r.agent)
	out, err = answerOverride(override, string(canonical))
	if created {
		out.status = http.StatusCreated
	}
	return out, err
}

func (a *api) deleteConfig(r *request, _ none) (out answer[none], err error) {
	if err := a.known(r); err != nil {
		return out, err
	}
	existed, err := a.remove(r)
	if err == nil && !existed {
		err = configAbsent(r.agent)
	}
	if err == nil {
		a.Policies.Refresh(r.ctx(), r.agent)
	}
	return out, err
}

func (a *api) remove(r *request) (existed bool, err error) {
	current, err := a.Directory.Override(r.ctx(), r.agent)
	if err != nil {
		return false, err
	}
	actor, err := r.actor("")
	if err != nil {
		return false, err
	}
	if err := r.precondition(current); err != nil || current == "" {
		return false, err
	}
	return true, conflictProblem(a.Directory.PutOverride(r.ctx(), r.agent, current, "", actor))
}

// conflictProblem names ErrConflict; others, and nil, stay as they are.
func conflictProblem(err error) error {
	if errors.Is(err, ErrConflict) {
		return problem.New(problem.PreconditionFailed, "it was changed meanwhile: read it again")
	}
	return err
}

// change writes a document if the request's precondition holds; created says that there was none.
func (a *api) change(r *request, get func(context.Context, string) (string, error),
	put func(ctx context.Context, agent, expected, text, actor string) error, text string,
) (created bool, err error) {
	actor, err := r.actor("")
	if err != nil {
		return false, err
	}
	current, err := get(r.ctx(), r.agent)
	if err != nil {
		return false, err
	}
	if err := r.precondition(current); err != nil {
		return false, err
	}
	return current == "", conflictProblem(put(r.ctx(), r.agent, current, text, actor))
}

// overrideProblem lists every bad value of an override.
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
	for _, e := range errs[:min(len(errs), maxErrors)] {
		f := problem.FieldError{Message: text.Clip(e.Error(), maxMessage)}
		if bad, ok := errors.AsType[*breaker.PolicyError](e); ok {
			f = problem.FieldError{Location: "body." + text.Short(bad.Field), Message: "want " + bad.Allowed, Value: text.Short(bad.Value)}
		}
		p.Errors = append(p.Errors, f)
	}
	return p
}
