package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestPaths_WrongOneSaysWhereToRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, path := range []string{"/", "/v1", "/docs/", "/docs/page.js", "/doc"} {
		if g := f.Do("GET", path, "").WantProblem(404, problem.NotFound); !strings.Contains(g.Text, "/docs") {
			t.Errorf("%s: %s", path, g.Text)
		}
	}
	f.Do(http.MethodPost, "/docs", "{}").WantProblem(405, problem.MethodNotAllowed)
	if h := f.Do("GET", "/docs", "").Want(200).Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", h)
	}
}

func TestPage_StandsAnAddressThatNamesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dom, _, _ := f.Browse("/docs#%")
	if !strings.Contains(dom, `id="acquire"`) {
		t.Error("the page is not shown")
	}
}
