package routetest

import (
	"encoding/json"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// Operation is the operation of a method and of a path as the document has it; nil: none.
func (c *Client) Operation(method, path string) *huma.Operation {
	item := c.Doc.Paths[path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodDelete: item.Delete,
	}[method]
}

// Operations are the operations of the document, by id.
func (c *Client) Operations() map[string]*huma.Operation {
	out := map[string]*huma.Operation{}
	for path := range c.Doc.Paths {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if op := c.Operation(method, path); op != nil {
				out[op.OperationID] = op
			}
		}
	}
	return out
}

// OperationAt is the operation of a request; nil: none.
func (c *Client) OperationAt(method, path string) *huma.Operation {
	segments := strings.Split(path, "/")
	for template := range c.Doc.Paths {
		same := slices.EqualFunc(strings.Split(template, "/"), segments, func(t, s string) bool {
			return t == s || strings.HasPrefix(t, "{") && s != ""
		})
		if op := c.Operation(method, template); same && op != nil {
			return op
		}
	}
	return nil
}

// AsDocumented checks that the document has the status, media type, headers, code and body of an operation's answer.
func (c *Client) AsDocumented(op *huma.Operation, g Got) {
	g.Helper()
	what := op.Method + " " + op.Path + ": " + strconv.Itoa(g.Status) + " " + text.Short(g.Text)
	response := op.Responses[strconv.Itoa(g.Status)]
	if response == nil {
		g.Errorf("status not documented: %s", what)
		return
	}
	kind, _, _ := mime.ParseMediaType(g.Header.Get("Content-Type"))
	media := response.Content[kind]
	if media == nil && (kind != "" || len(response.Content) > 0 || g.Text != "") {
		g.Errorf("media type %q not documented: %s", kind, what)
		return
	}
	for name, h := range response.Headers {
		has := g.Header.Get(name) != "" || g.Status >= 400 && g.JSON["code"] != string(problem.CircuitBreakerOpen)
		if h.Required && !has {
			g.Errorf("no header %s: %s", name, what)
		}
	}
	if media == nil || !strings.HasSuffix(kind, "json") {
		return
	}
	code, _ := g.JSON["code"].(string)
	if kind == "application/problem+json" && !slices.Contains(strings.Split(response.Description, ", "), code) {
		g.Errorf("code %s is not in %q: %s", code, response.Description, what)
	}
	c.validate(g, media.Schema, what)
}

func (c *Client) validate(g Got, schema *huma.Schema, what string) {
	g.Helper()
	var body any
	if err := json.Unmarshal([]byte(g.Text), &body); err != nil {
		g.Errorf("no JSON: %s", what)
		return
	}
	path, res := huma.NewPathBuffer(nil, 0), &huma.ValidateResult{}
	huma.Validate(c.Doc.Components.Schemas, schema, path, huma.ModeReadFromServer, body, res)
	for _, err := range res.Errors {
		g.Errorf("%v: %s", err, what)
	}
}

// Probe is one request of a sample. A path and a body that are left out are the document's examples.
type Probe struct {
	Path, Query, Body string
	Header            []string
}

// Sample is a request that an operation answers with a success, and one that it refuses. Before makes the success
// possible, and returns the body to send; "": the document's example.
type Sample[F any] struct {
	Before    func(F) string
	Good, Bad Probe
}

// Send sends a probe of an operation.
func (c *Client) Send(op *huma.Operation, p Probe) Got {
	c.Helper()
	if p.Path == "" {
		p.Path = op.Path
		for _, param := range op.Parameters {
			if text, ok := param.Example.(string); ok && param.In == "path" {
				p.Path = strings.ReplaceAll(p.Path, "{"+param.Name+"}", text)
			}
		}
	}
	if p.Body == "" {
		p.Body = exampleBody(op)
	}
	return c.Do(op.Method, p.Path+p.Query, p.Body, p.Header...)
}

func exampleBody(op *huma.Operation) string {
	if op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		return ""
	}
	example, _ := op.RequestBody.Content["application/json"].Example.(json.RawMessage)
	return string(example)
}

// AnswersAsDocumented sends the samples, each to a fixture of its own. Do checks that the answers are as documented.
// Each operation of the document needs a sample, but those in skip.
func AnswersAsDocumented[F any](
	t *testing.T, fixed func(testing.TB) (F, *Client), samples map[string]Sample[F], skip ...string,
) {
	t.Helper()
	_, c := fixed(t)
	operations := c.Operations()
	for id := range samples {
		if operations[id] == nil {
			t.Errorf("there is no operation %s", id)
		}
	}
	for id, op := range operations {
		s, ok := samples[id]
		if !ok {
			if !slices.Contains(skip, id) {
				t.Errorf("operation %s has no sample", id)
			}
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			if _, c := fixed(t); c.Send(op, s.Bad).Status < 400 {
				t.Error("the bad request is taken")
			}
			f, c := fixed(t)
			if s.Before != nil {
				if body := s.Before(f); body != "" {
					s.Good.Body = body
				}
			}
			if g := c.Send(op, s.Good); g.Status >= 300 {
				t.Errorf("the good request: %d %s", g.Status, g.Text)
			}
		})
	}
}

// resolves checks that each reference of the document names a schema.
func (c *Client) resolves(...string) {
	c.Helper()
	doc := c.Do("GET", "/openapi.json", "").Want(200, `openapi="3.1.0"`)
	refs := regexp.MustCompile(`"\$ref": "#/([^"]+)"`).FindAllStringSubmatch(doc.Text, -1)
	for _, ref := range refs {
		if doc.At(strings.ReplaceAll(ref[1], "/", ".")) == nil {
			c.Errorf("no schema %s", ref[1])
		}
	}
	if len(refs) < 10 {
		c.Errorf("only %d references", len(refs))
	}
}
