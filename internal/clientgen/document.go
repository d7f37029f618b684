// Package clientgen makes the Go types of pkg/client from the OpenAPI documents of breakerd and of the bridge.
package clientgen

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/daemon"
)

// Document is the part of an OpenAPI document that a client goes by.
type Document struct {
	Paths      map[string]map[string]*Operation `json:"paths"`
	Components struct {
		Schemas map[string]*Schema `json:"schemas"`
	} `json:"components"`
}

// Operation is one operation of a Document.
type Operation struct {
	OperationID string `json:"operationId"`
	Parameters  []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	RequestBody *content             `json:"requestBody"`
	Responses   map[string]*response `json:"responses"`

	Method, Path string `json:"-"`
}

type response struct {
	content

	Headers map[string]any `json:"headers"`
}

type content struct {
	Content map[string]struct {
		Schema *Schema `json:"schema"`
	} `json:"content"`
}

// json is the schema of the JSON of a body; nil: it has none.
func (c *content) json() *Schema {
	if c == nil {
		return nil
	}
	return c.Content["application/json"].Schema
}

// Schema is one schema of a Document.
type Schema struct {
	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"`
	Format               string             `json:"format"`
	Description          string             `json:"description"`
	Enum                 []any              `json:"enum"`
	Items                *Schema            `json:"items"`
	Properties           map[string]*Schema `json:"properties"`
	AdditionalProperties json.RawMessage    `json:"additionalProperties"`
	Required             []string           `json:"required"`
}

// kind is the type, and whether the value may be null besides.
func (s *Schema) kind() (kind string, nullable bool) {
	switch t := s.Type.(type) {
	case string:
		return t, false
	case []any:
		kind, _ = t[0].(string)
		return kind, true
	}
	return "", false
}

// values is the schema of the values of an object that is a map; nil: they are anything.
func (s *Schema) values(t testing.TB) *Schema {
	t.Helper()
	switch string(s.AdditionalProperties) {
	case "", "true", "false", "{}":
		return nil
	}
	var out Schema
	if err := json.Unmarshal(s.AdditionalProperties, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// Program is a program of the fleet, without its listeners.
type Program struct {
	Handler     http.Handler
	Start, Stop func()
}

// Open makes a program of the fleet from these variables. Its Stop has to be called.
func Open(ctx context.Context, p daemon.Program, env ...string) (Program, error) {
	cfg, err := p.Configure(env)
	if err != nil {
		return Program{}, err
	}
	s, err := cfg.Open(ctx, daemon.Host{
		Log: slog.New(slog.DiscardHandler), LinesDropped: func() int64 { return 0 },
		Ready: func(context.Context) error { return nil },
	})
	if err != nil {
		return Program{}, err
	}
	return Program{s.Listeners[0].Handler, s.Start, func() { s.Stop(true) }}, nil
}

// Documents are the OpenAPI documents of breakerd and of the bridge.
func Documents(t testing.TB) (breakerd, bridge Document) {
	t.Helper()
	read := func(p daemon.Program) (d Document) {
		program, err := Open(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		defer program.Stop()
		w := httptest.NewRecorder()
		const at = "http://localhost/openapi.json"
		program.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, at, http.NoBody))
		text, err := io.ReadAll(w.Body)
		if err == nil {
			err = json.Unmarshal(text, &d)
		}
		if err != nil || len(d.Paths) < 10 {
			t.Fatal(w.Code, err)
		}
		for path, item := range d.Paths {
			for method, op := range item {
				op.Method, op.Path = method, path
			}
		}
		return d
	}
	return read(app.Breakerd()), read(app.Bridge())
}

// Operations are those of a document that clients call, by id.
func (d Document) Operations() map[string]*Operation {
	out := map[string]*Operation{}
	for _, item := range d.Paths {
		for _, op := range item {
			switch op.OperationID {
			case "docs": // a page for people
			case "listChecks": // healthChecks, for a page
			case "callAgentGet", "callAgentPost": // the gateway: any client of HTTP calls through it
			default:
				out[op.OperationID] = op
			}
		}
	}
	return out
}

// Body is the schema of what an operation takes; nil: nothing.
func (o *Operation) Body() *Schema { return o.RequestBody.json() }

// Answer is the schema of an operation's success; nil: it has no JSON, or any.
func (o *Operation) Answer() *Schema {
	if ok := o.Responses["200"]; ok != nil && o.OperationID != "openapi" {
		return ok.json()
	}
	return nil
}

// tagged says whether an operation's success has an ETag.
func (o *Operation) tagged() bool {
	ok := o.Responses["200"]
	return ok != nil && ok.Headers["etag"] != nil
}
