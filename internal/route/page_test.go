package route

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestPage_IsOneFileThatRunsNothingElse(t *testing.T) {
	t.Parallel()
	api := New("test", "1", "A test.", nil)
	if err := api.Finish(); err != nil {
		t.Fatal(err)
	}
	g := httptest.NewRecorder()
	api.ServeHTTP(g, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/docs", http.NoBody))
	page := g.Body.String()
	policy := g.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
		t.Errorf("a loose policy: %s", policy)
	}
	if ct := g.Header().Get("Content-Type"); ct != "text/html; charset=utf-8" {
		t.Errorf("headers: %v", g.Header())
	}
	for kind, tag := range map[string]string{"script-src": "script", "style-src": "style"} {
		inside := regexp.MustCompile(`(?s)<` + tag + `>(.*)</` + tag + `>`).FindStringSubmatch(page)
		if len(inside) != 2 || !strings.Contains(policy, kind+" "+sourceHash(inside[1])) {
			t.Errorf("the policy does not name the %s of the page", tag)
		}
	}
	if m := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]+|@import|innerHTML|\bsrc=|\son[a-z]+=|\sstyle=`).FindString(page); m != "" {
		t.Errorf("the page holds %q", m)
	}
}
