package httpapi

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// namePattern is breaker.ValidName for the document.
const namePattern = `^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`

// wordPattern is breaker.ValidWord for the document.
const wordPattern = `^[A-Za-z0-9._:@-]{1,64}$`

// pathNames lists the {names} in a mux pattern.
func pathNames(path string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return names
}

// pathParam documents a {name} of a path.
func pathParam(name string) *huma.Param {
	p := agentParam(name, "path", true)
	switch name {
	case "workflow":
		p.Description, p.Example = "Its workflow_id.", "circuit-breaker-test"
	case "execution":
		p.Description, p.Example = "Its execution_id.", strings.Repeat("0a", 16)
		p.Schema = &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-f]{32}$"}
	case "path":
		p.Description, p.Example, p.Schema = "What follows, slashes and all.", "ask", &huma.Schema{Type: huma.TypeString}
	}
	return p
}

// badPathCodes are the problems of a {name} that cannot be one.
func badPathCodes() map[string]problem.Code {
	return map[string]problem.Code{
		"agent": problem.InvalidAgentName, "workflow": problem.InvalidWorkflowID, "execution": problem.InvalidExecutionID, "path": problem.InvalidPath,
	}
}

func agentParam(name, in string, required bool) *huma.Param {
	return &huma.Param{
		Name: name, In: in, Required: required, Description: "The agent's name.",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: namePattern}, Example: "FailingAgent",
	}
}

func actorParam() *huma.Param {
	return &huma.Param{
		Name: "X-Actor", In: "header", Description: "Who does it, for the log; default api.",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: wordPattern},
	}
}

// headerParam documents a header of an answer; always: no answer is without it.
func headerParam(about string, always bool) *huma.Param {
	return &huma.Param{Description: about, Required: always, Schema: &huma.Schema{Type: huma.TypeString}}
}

func queryParam(name, about string, s *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: about, Schema: s}
}

func limitParam() *huma.Param {
	return queryParam("limit", "Entries a page, 1000 at most and by default.",
		&huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(listMost))})
}

func cursorParam() *huma.Param {
	return queryParam("cursor", "next_cursor of the page before.", &huma.Schema{Type: huma.TypeString})
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

// query reads the parameters of the query, each at most once, and none that is not known.
func (r *request) query(known ...string) (url.Values, error) {
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

// whole reads a whole number from 1 to most; empty is def.
func whole(q url.Values, name string, def, most int) (int, error) {
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

// actor is who does it: the body's word, else the header's, else "api".
func (r *request) actor(inBody string) (string, error) {
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
