// Package routetest tests an HTTP API against its own OpenAPI document: each answer that a [Client] gets has to be in
// the document, and the API has to refuse what the document does not allow.
package routetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/testkit"
)

// Client calls an API on a listener of its own.
type Client struct {
	testing.TB

	URL   string
	Doc   *huma.OpenAPI
	Log   *testkit.Buffer                           // what the API logged
	Find  func(method, path string) *huma.Operation // nil: OperationAt
	Keys  func() []string                           // what was written to the API's stores
	Token string                                    // sent with each request; "": none
}

// Logger makes a logger of every level, and the buffer of its lines.
func Logger() (*slog.Logger, *testkit.Buffer) {
	out := &testkit.Buffer{}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})), out
}

// Serve listens for the API until the test ends.
func (c *Client) Serve(h http.Handler) {
	server := httptest.NewServer(h)
	c.Cleanup(server.Close)
	c.URL = server.URL
}

// Got is one answer.
type Got struct {
	testing.TB

	Status int
	Header http.Header
	Text   string
	JSON   map[string]any
}

// Do sends a request. Header names and values follow the body. The document has to have the answer.
func (c *Client) Do(method, path, body string, header ...string) Got {
	c.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(c.Context(), method, c.URL+path, in)
	if err != nil {
		c.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.Fatal(err)
	}
	g := c.Read(res)
	plain, _, _ := strings.Cut(path, "?")
	find := c.OperationAt
	if c.Find != nil {
		find = c.Find
	}
	if op := find(method, plain); op != nil {
		c.AsDocumented(op, g)
	}
	return g
}

// Read reads a response.
func (c *Client) Read(res *http.Response) Got {
	c.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.Fatal(err)
	}
	g := Got{TB: c.TB, Status: res.StatusCode, Header: res.Header, Text: string(text)}
	_ = json.Unmarshal(text, &g.JSON)
	return g
}

// Dial connects to the API.
func (c *Client) Dial() net.Conn {
	c.Helper()
	var d net.Dialer
	conn, err := d.DialContext(c.Context(), "tcp", strings.TrimPrefix(c.URL, "http://"))
	if err != nil {
		c.Fatal(err)
	}
	return conn
}

// Raw sends bytes that net/http's client would refuse, and reads one answer.
func (c *Client) Raw(request string) Got {
	c.Helper()
	conn := c.Dial()
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, request) }() // the server may answer and close before it has read everything
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.Fatalf("%.200q: %v", request, err)
	}
	return c.Read(res)
}

// RawRequest is Raw with the target as it is given.
func (c *Client) RawRequest(method, target, body string) Got {
	c.Helper()
	head := method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	head += c.authorization()
	if body != "" {
		head += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return c.Raw(head + "\r\n" + body)
}

// authorization is the header line of the token; "": there is none.
func (c *Client) authorization() string {
	if c.Token == "" {
		return ""
	}
	return "Authorization: Bearer " + c.Token + "\r\n"
}

// RawHeader sends a request without a body, and gives the bytes of the answer.
func (c *Client) RawHeader(method, target string) string {
	c.Helper()
	conn := c.Dial()
	defer conn.Close()
	_, _ = io.WriteString(conn, method+" "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(conn)
	if err != nil {
		c.Fatal(err)
	}
	return string(text)
}

// Want checks the status, and fields, each as "dotted.path=JSON".
func (g Got) Want(status int, fields ...string) Got {
	g.Helper()
	if g.Status != status {
		g.Fatalf("status %d, want %d: %s", g.Status, status, g.Text)
	}
	for _, f := range fields {
		name, want, _ := strings.Cut(f, "=")
		var have bytes.Buffer
		enc := json.NewEncoder(&have)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(g.At(name)); err != nil {
			g.Fatal(err)
		}
		if strings.TrimSpace(have.String()) != want {
			g.Errorf("%s is %s, want %s in %s", name, &have, want, g.Text)
		}
	}
	return g
}

// At is the field of a dotted path; nil: none.
func (g Got) At(path string) any {
	var v any = g.JSON
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			if i := int(part[0] - '0'); i < len(x) {
				v = x[i]
			} else {
				return nil
			}
		default:
			return nil
		}
	}
	return v
}

// WantProblem checks that the answer is a problem with this code.
func (g Got) WantProblem(status int, code problem.Code) Got {
	g.Helper()
	g.Want(status, `code="`+string(code)+`"`, `type="urn:breakerd:problem:`+string(code)+`"`)
	for _, name := range []string{"title", "status", "detail", "errors"} {
		if g.JSON[name] == nil {
			g.Errorf("a problem without %s: %s", name, g.Text)
		}
	}
	if ct := g.Header.Get("Content-Type"); ct != "application/problem+json" {
		g.Errorf("Content-Type %q", ct)
	}
	return g
}

var logLine = regexp.MustCompile(`^time=\S+ level=\w+ msg=[\x20-\x7e]*$`)

// Unharmed checks that nothing was written and no log line broken.
func (c *Client) Unharmed(what string) {
	c.Helper()
	if keys := c.Keys(); len(keys) > 0 {
		c.Errorf("%s: wrote %.200q", what, keys)
	}
	for line := range strings.Lines(c.Log.String()) {
		if !logLine.MatchString(strings.TrimSuffix(line, "\n")) || len(line) > 4000 {
			c.Errorf("%s: log line %.300q", what, line)
		}
	}
}
