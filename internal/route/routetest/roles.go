package routetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
)

// Elsewhere is whoever has every role, and may name the agents elsewhere-* alone.
const Elsewhere = "elsewhere"

// TokenOf is the token of a caller of [AuthFile], by the name.
func TokenOf(name string) string { return "token-of-" + name }

// AuthFile writes a file with a caller of each role, whose name it is, one whose token has expired, and Elsewhere.
func AuthFile(t testing.TB) (path string) {
	t.Helper()
	var text strings.Builder
	for name, more := range map[string]string{
		"read": "", "report": "", "operate": "", "admin": "",
		"expired": ", expires: 2020-01-01T00:00:00Z", Elsewhere: `, agents: ["elsewhere-*"]`,
	} {
		role := name
		if more != "" {
			role = "admin"
		}
		sum := sha256.Sum256([]byte(TokenOf(name)))
		fmt.Fprintf(&text, "- {name: %s, role: %s, sha256: %s%s}\n", name, role, hex.EncodeToString(sum[:]), more)
	}
	path = filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Guard is a guard by AuthFile.
func Guard(t testing.TB) *access.Guard {
	t.Helper()
	g, err := access.New(access.Options{File: AuthFile(t)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// mayCarryOut is what whoever sends a token may do. It is written out here, and not taken from package access.
func mayCarryOut() map[string][]access.Role {
	return map[string][]access.Role{
		"": {"open"}, "wrong": {"open"}, "expired": {"open"}, "read": {"open", "known", "read"}, "report": {"open", "known", "report"},
		"operate": {"open", "known", "read", "report", "operate"}, "admin": {"open", "known", "read", "report", "operate", "admin"},
		Elsewhere: {"open", "known", "read", "report", "operate", "admin"},
	}
}

// KeepsRoles sends each operation of the document, but those in skip, to an API under Guard, with each token and with
// none, and checks that the answer is as the operation's role wants it, and that a refused request changed nothing.
// bodies take the place of the document's examples, by operation.
func KeepsRoles(t *testing.T, client func(testing.TB, *access.Guard) *Client, bodies map[string]string, skip ...string) {
	t.Helper()
	for id, op := range client(t, Guard(t)).Operations() {
		if slices.Contains(skip, id) {
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			refused, allowed := client(t, Guard(t)), client(t, Guard(t))
			need, _ := op.Extensions["x-role"].(access.Role)
			if len(op.Security) == 0 != (need == access.Open) {
				t.Errorf("security is %v", op.Security)
			}
			for _, name := range slices.Sorted(maps.Keys(mayCarryOut())) {
				may := slices.Contains(mayCarryOut()[name], need)
				foreign := name == Elsewhere && namesAgent(op)
				c := allowed
				if !may || foreign {
					c = refused
				}
				if c.Token = TokenOf(name); name == "" {
					c.Token = ""
				}
				g := c.sendAs(op, bodies[id])
				code, _ := g.JSON["code"].(string)
				want := map[bool]problem.Code{true: problem.Forbidden, false: problem.Unauthenticated}[len(mayCarryOut()[name]) > 1]
				if foreign {
					want = problem.ForbiddenAgent
				}
				isRefusal := slices.Contains([]problem.Code{problem.Forbidden, problem.Unauthenticated, problem.ForbiddenAgent}, problem.Code(code))
				switch {
				case may && !foreign && isRefusal:
					t.Errorf("%q, which needs %s: %d %s", name, need, g.Status, g.Text)
				case (!may || foreign) && (problem.Code(code) != want && g.Text != "" || g.Status != want.Status()):
					t.Errorf("%q, which needs %s: %d %s, want %s", name, need, g.Status, g.Text, want)
				case g.Status == 401 && !strings.HasPrefix(g.Header.Get("WWW-Authenticate"), `Bearer realm="breakerd"`):
					t.Errorf("%q: the challenge is %q", name, g.Header.Get("WWW-Authenticate"))
				}
				if strings.Contains(g.Text+fmt.Sprint(g.Header)+c.Log.String(), "token-of-") {
					t.Errorf("%q: a token is shown: %s %v %s", name, g.Text, g.Header, c.Log)
				}
			}
			refused.Unharmed(id)
		})
	}
}

// namesAgent reports whether the example of an operation names an agent. That of a workflow names what is not there.
func namesAgent(op *huma.Operation) bool {
	refused := op.Responses["403"]
	return refused != nil && strings.Contains(refused.Description, string(problem.ForbiddenAgent)) && op.OperationID != "executeWorkflow"
}

// sendAs sends the document's example, or a body. Of a stream it asks for the header alone.
func (c *Client) sendAs(op *huma.Operation, body string) Got {
	c.Helper()
	if ok := op.Responses["200"]; ok != nil && ok.Content["text/event-stream"] != nil {
		return c.Do("HEAD", op.Path, "")
	}
	var query string
	if op.OperationID == "listQuarantine" {
		query = "?agent_id=FailingAgent"
	}
	return c.Send(op, Probe{Body: body, Query: query})
}

// RefusesStrangers sends bad names and bad bodies without a token, and with one that nobody has: nothing is looked at
// that a stranger sends, and none of it is an error of ours.
func RefusesStrangers(t *testing.T, client func(testing.TB, *access.Guard) *Client, skip ...string) {
	t.Helper()
	c := client(t, Guard(t))
	for id, op := range c.Operations() {
		if need, _ := op.Extensions["x-role"].(access.Role); need == access.Open || slices.Contains(skip, id) {
			continue
		}
		for _, c.Token = range []string{"", "wrong"} {
			for what, name := range BadNames() {
				if path, ok := named(op, name.Text); ok && name.Ours {
					if g := c.RawRequest(op.Method, path, exampleBody(op)); g.Status < 400 || g.Status > 499 {
						t.Errorf("%s, name %s: %d %s", id, what, g.Status, g.Text)
					}
				}
			}
			if op.RequestBody == nil {
				continue
			}
			for _, bodies := range BadBodies() {
				for _, body := range bodies {
					if g := c.RawRequest(op.Method, Path(op), body); g.Status != 401 && g.Status != 429 {
						t.Errorf("%s %.60q: %d %s", id, body, g.Status, g.Text)
					}
				}
			}
		}
		c.Unharmed(id)
	}
}
