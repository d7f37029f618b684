package routetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
)

// BadName is a name as it is in a request line. Ours: the API has to answer it, not net/http.
type BadName struct {
	Text string
	Ours bool
}

// BadNames are names that nothing has.
func BadNames() map[string]BadName {
	return map[string]BadName{
		"empty": {"", true}, "encoded space": {"a%20b", true}, "raw space": {"a b", false}, "encoded NUL": {"a%00", true},
		"raw NUL": {"a\x00", false}, "raw CRLF": {"a\r\nX: y", false}, "encoded CRLF": {"a%0d%0ab", true}, "star": {"*", true},
		"encoded star": {"%2A", true}, "class": {"[z-a]", true}, "braces": {"{}", true}, "tail": {"a}b", true}, "slash": {"a/b", true},
		"encoded slash": {"a%2Fb", true}, "129 bytes": {strings.Repeat("a", 129), true}, "1 MB": {strings.Repeat("a", 1<<20), true},
		"3 MB": {strings.Repeat("a", 3<<20), false}, "invalid UTF-8": {"a%ff", true}, "raw invalid UTF-8": {"a\xff", true},
		"zero width": {"a%E2%80%8Bb", true}, "dot": {".", true}, "dots": {"..", true}, "encoded dots": {"%2e%2e", true}, "dash first": {"-a", true},
		"backslash": {"a%5Cb", true}, "percent": {"%25", true}, "bad escape": {"%zz", false}, "plus": {"a+b", true}, "semicolon": {"a;b", true},
		"newline": {"a%0a", true}, "high": {"\u00e4", true}, "two slashes": {"/a", true}, "up": {"a/../b", true},
	}
}

var pathName = regexp.MustCompile(`\{\w+\}`)

// named is the operation's path with this name in it; ok: it has a place for one.
func named(op *huma.Operation, name string) (path string, ok bool) {
	path = pathName.ReplaceAllLiteralString(op.Path, name)
	return path, path != op.Path
}

// Path is the path of an operation on a thing with the name a, or a valid id.
func Path(op *huma.Operation) string {
	path, _ := named(op, "a")
	if strings.Contains(op.Path, "{action}") {
		path, _ = named(op, strings.Repeat("0a", 8))
	}
	return path
}

// Conforms checks what every API has in common, each with an API of its own. It leaves out the operations in skip,
// which are not on the mux.
func Conforms(t *testing.T, client func(testing.TB) *Client, skip ...string) {
	t.Helper()
	for name, check := range map[string]func(*Client, ...string){
		"bad names": (*Client).refusesBadNames, "bad bodies": (*Client).refusesBadBodies,
		"limits": (*Client).refusesBeyondLimits, "unknown parameters": (*Client).refusesUnknownParams,
		"references": (*Client).resolves, "page": (*Client).onThePage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(client(t), skip...)
		})
	}
}

// refusesBadNames sends bad names to each operation whose path has one.
func (c *Client) refusesBadNames(skip ...string) {
	c.Helper()
	ours := []any{
		string(problem.InvalidActionID), string(problem.InvalidAgentName), string(problem.InvalidWorkflowID), string(problem.InvalidExecutionID), string(problem.NotFound),
		string(problem.MethodNotAllowed),
	}
	for id, op := range c.Operations() {
		for what, name := range BadNames() {
			path, ok := named(op, name.Text)
			if !ok || slices.Contains(skip, id) {
				continue
			}
			g := c.RawRequest(op.Method, path, exampleBody(op))
			what = fmt.Sprintf("%s %s, name %s: %d %.200s", op.Method, op.Path, what, g.Status, g.Text)
			if g.Status < 400 || g.Status > 499 {
				c.Error(what)
			}
			if name.Ours && !slices.Contains(ours, g.JSON["code"]) {
				c.Errorf("not ours: %s", what)
			}
			if len(g.Text) > 2000 {
				c.Errorf("%s: an answer of %d bytes", what, len(g.Text))
			}
			c.Unharmed(what)
		}
	}
}

// twoCases is one name in two cases: given twice, or where names are the caller's own, unknown.
const twoCases = `{"reason":"a","Reason":"b"}`

// BadBodies are bodies that no operation takes, with the statuses that are fine.
func BadBodies() map[string][]string {
	return map[string][]string{
		"413": {`{"reason":"` + strings.Repeat("a", 10<<20) + `"}`},
		"400": {
			strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), strings.Repeat(`{"a":`, 50) + `1` + strings.Repeat(`}`, 50),
			strings.Repeat("[", 1000), `{"reason":"a","reason":"b"}`, twoCases, `{} {}`, `{}]`, `{"a":1}x`, `{"duration_ms":NaN}`,
			`{"duration_ms":-Infinity}`, `{"duration_ms":0x10}`, `{`, `nul`, "\x00", "{\"reason\":\"\xff\"}", "\xef\xbb\xbf{}", `{'a':1}`, `{"a":01}`,
		},
		"422": {
			`{"nonsense":1}`, `{"Reason":"x"}`, `[]`, `"x"`, `1`, `null`, `{"reason":1e400}`, `{"duration_ms":1e400}`, `{"timeout_seconds":-1e400}`,
			`{"reason":{"a":{}}}`, `{"":1}`, `{"\u200b":1}`,
		},
	}
}

// refusesBadBodies sends bad bodies to each operation that takes one.
func (c *Client) refusesBadBodies(skip ...string) {
	c.Helper()
	for id, op := range c.Operations() {
		if op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil || slices.Contains(skip, id) {
			continue
		}
		path := Path(op)
		for status, bodies := range BadBodies() {
			for _, body := range bodies {
				g := c.RawRequest(op.Method, path, body)
				ok := strconv.Itoa(g.Status) == status || g.Status == 422 && body == twoCases
				if !ok || g.JSON["code"] == nil || len(g.Text) > 8000 {
					c.Errorf("%s %s %.60q: %d %.300s, want %s", op.Method, path, body, g.Status, g.Text, status)
				}
			}
		}
		for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "", "application/json; charset", "multipart/form-data"} {
			c.Do(op.Method, path, exampleBody(op), "Content-Type", ct).WantProblem(415, problem.UnsupportedMediaType)
		}
		cut := c.Raw(op.Method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + c.authorization() + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		if cut.Status != 400 {
			c.Errorf("bad chunk: %d %s", cut.Status, cut.Text)
		}
		c.Unharmed(op.Path)
	}
}

// refusesUnknownParams sends each list a parameter that it does not document.
func (c *Client) refusesUnknownParams(...string) {
	c.Helper()
	lists := 0
	for id, op := range c.Operations() {
		if strings.HasPrefix(id, "list") {
			lists++
			c.Do(op.Method, Path(op)+"?nonsense=1", "").WantProblem(422, problem.InvalidValue)
		}
	}
	if lists < 2 {
		c.Errorf("only %d lists", lists)
	}
}

// refusesBeyondLimits sends the example of each operation's body with one value changed to what the document does not
// allow: a wrong type, a word that is not in the enum, a number or a length beyond its bound, a missing or an unknown
// field.
func (c *Client) refusesBeyondLimits(skip ...string) {
	c.Helper()
	tried := 0
	for id, op := range c.Operations() {
		example := exampleBody(op)
		if example == "" || slices.Contains(skip, id) {
			continue
		}
		var value any
		if err := json.Unmarshal([]byte(example), &value); err != nil {
			c.Fatalf("%s: %v", id, err)
		}
		c.violate(op.RequestBody.Content["application/json"].Schema, value, "body", func(where string, changed any) {
			tried++
			body, err := json.Marshal(changed)
			if err != nil {
				c.Fatal(err)
			}
			g := c.Do(op.Method, Path(op), string(body)).WantProblem(422, problem.InvalidValue)
			if !strings.Contains(g.Text, `"location":"`+where) {
				c.Errorf("%s: %s: %.200s: %.300s", id, where, body, g.Text)
			}
		})
		c.Unharmed(id)
	}
	if tried < 20 {
		c.Errorf("only %d bodies tried", tried)
	}
}

// violate tries values that a schema does not allow, each in the whole body.
func (c *Client) violate(s *huma.Schema, value any, at string, try func(where string, changed any)) {
	if s.Ref != "" {
		s = c.Doc.Components.Schemas.SchemaFromRef(s.Ref)
	}
	switch s.Type {
	case "":
	case huma.TypeString:
		try(at, 7)
	default:
		try(at, "x")
	}
	if s.Enum != nil {
		try(at, "no such word")
	}
	if s.Pattern != "" {
		try(at, "a b")
	}
	if s.MaxLength != nil {
		try(at, strings.Repeat("x", *s.MaxLength+1))
	}
	if s.Minimum != nil {
		try(at, *s.Minimum-1)
	}
	if s.Maximum != nil {
		try(at, *s.Maximum+1)
	}
	if items, ok := value.([]any); ok && len(items) > 0 {
		if s.MaxItems != nil {
			try(at, slices.Repeat(items[:1], *s.MaxItems+1))
		}
		c.violate(s.Items, items[0], at+"[0]", func(where string, changed any) { try(where, []any{changed}) })
	}
	fields, _ := value.(map[string]any)
	with := func(name string, changed any) map[string]any {
		out := maps.Clone(fields)
		if out[name] = changed; changed == nil {
			delete(out, name)
		}
		return out
	}
	if fields == nil || s.Properties == nil {
		return
	}
	for _, name := range s.Required {
		try(at, with(name, nil))
	}
	try(at+".nonsense", with("nonsense", 1))
	for name, property := range s.Properties {
		c.violate(property, fields[name], at+"."+name, func(where string, changed any) { try(where, with(name, changed)) })
	}
}
