package httpapi

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestThePageIsOneFileThatRunsNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := f.do("GET", "/docs", "").want(200)
	policy := g.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
		t.Errorf("a loose policy: %s", policy)
	}
	if ct := g.header.Get("Content-Type"); ct != "text/html; charset=utf-8" || g.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", g.header)
	}
	for kind, tag := range map[string]string{"script-src": "script", "style-src": "style"} {
		inside := regexp.MustCompile(`(?s)<` + tag + `>(.*)</` + tag + `>`).FindStringSubmatch(g.text)
		if len(inside) != 2 || !strings.Contains(policy, kind+" "+sourceHash(inside[1])) {
			t.Errorf("the policy does not name the %s of the page", tag)
		}
	}
	if m := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]+|@import|innerHTML|\bsrc=|\son[a-z]+=|\sstyle=`).FindString(g.text); m != "" {
		t.Errorf("the page holds %q", m)
	}
}

func TestAWrongPathSaysWhereToRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, path := range []string{"/", "/v1", "/docs/", "/docs/page.js", "/doc"} {
		if g := f.do("GET", path, "").wantProblem(404, problem.NotFound); !strings.Contains(g.text, "/docs") {
			t.Errorf("%s: %s", path, g.text)
		}
	}
	f.do(http.MethodPost, "/docs", "{}").wantProblem(405, problem.MethodNotAllowed)
}
