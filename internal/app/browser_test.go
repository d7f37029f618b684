package app

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// attack is a page that tries to change things at %[1]s, in each way that needs no consent of the browser's.
const attack = `<!doctype html><title>x</title><body><script>
const at = "%[1]s/v1/admin/circuit_breakers/victim/";
const body = '{"reason":"attack"}';
const tried = [
  fetch(at + "open", {method: "POST", mode: "no-cors", credentials: "include", body}),
  fetch(at + "open", {method: "POST", credentials: "include", body, headers: {"Content-Type": "application/json"}}),
  fetch("%[1]s/v1/admin/fleet", {method: "PUT", credentials: "include", body: '{"action":"stop","reason":"attack"}',
    headers: {"Content-Type": "application/json"}}),
];
const frame = document.body.appendChild(document.createElement("iframe"));
frame.name = "f";
const form = document.body.appendChild(document.createElement("form"));
form.method = "post"; form.enctype = "text/plain"; form.target = "f"; form.action = at + "open";
const field = form.appendChild(document.createElement("input"));
field.name = '{"reason":"attack","actor":"'; field.value = '"}';
form.submit();
Promise.allSettled(tried).then(() => document.title = "tried");
</script></body>`

// browsed is what came from a browser.
type browsed struct {
	mu   sync.Mutex
	seen []string
}

// TestSession_APageOfAnotherPortChangesNothing in a real browser that has a valid session's cookie. To a browser another
// port of the same host is the same site, which SameSite lets pass.
func TestSession_APageOfAnotherPortChangesNothing(t *testing.T) {
	t.Parallel()
	const token = "a-token-that-is-only-of-this-test"
	sum := sha256.Sum256([]byte(token))
	file := filepath.Join(t.TempDir(), "auth.yaml")
	entry := "- name: ops\n  role: admin\n  sha256: " + hex.EncodeToString(sum[:]) + "\n"
	if err := os.WriteFile(file, []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWholeOf(t, "embedded://", func() int64 { return 0 }, "AUTH_FILE="+file)
	w.Token = token
	opened := w.Do(http.MethodPost, "/v1/session", "").Want(http.StatusOK)
	w.Token = ""
	cookie, _, _ := strings.Cut(opened.Header.Get("Set-Cookie"), ";")
	if !strings.HasPrefix(cookie, access.Cookie+"=") {
		t.Fatal(opened.Header)
	}

	var b browsed
	server := &routetest.Client{TB: t}
	page := func(res http.ResponseWriter) {
		res.Header().Set("Set-Cookie", cookie+"; Path=/; HttpOnly; SameSite=Strict")
		res.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(res, fmt.Sprintf(attack, server.URL))
	}
	server.Serve(http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/own" { // what a page of ours could do
			page(res)
			return
		}
		w.handler.ServeHTTP(res, r)
		if _, err := r.Cookie(access.Cookie); err == nil && r.Method != http.MethodOptions {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.seen = append(b.seen, r.Method+" "+r.URL.Path)
		}
	}))
	attacker := &routetest.Client{TB: t}
	attacker.Serve(http.HandlerFunc(func(res http.ResponseWriter, _ *http.Request) { page(res) }))

	dom, _, _ := attacker.Browse("/")
	b.mu.Lock()
	came := len(b.seen)
	b.mu.Unlock()
	if !strings.Contains(dom, "<title>tried</title>") || came == 0 {
		t.Errorf("the attack did not happen: %d requests came with the cookie, %.300s", came, dom)
	}
	w.Token = token
	w.Do(http.MethodGet, "/v1/admin/circuit_breakers/victim", "").Want(http.StatusNotFound)
	w.Do(http.MethodGet, "/v1/admin/fleet", "").Want(http.StatusOK, `action="none"`)
	w.Do(http.MethodGet, "/v1/admin/audit", "").Want(http.StatusOK, "entries.0=null")

	dom, _, _ = server.Browse("/own")
	w.Do(http.MethodGet, "/v1/admin/circuit_breakers/victim", "").Want(http.StatusOK, `state="OPEN"`, `hold.actor="ops"`)
	w.Do(http.MethodGet, "/v1/admin/fleet", "").Want(http.StatusOK, `action="stop"`)
	if t.Failed() {
		t.Logf("%v\n%.500s", b.seen, dom)
	}
}
