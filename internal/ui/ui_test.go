package ui

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ask asks the page for a path; what is not the page's is answered with 418.
func ask(t *testing.T, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler_ServesThePageAndNothingElse(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{
		"/ui/": 200, "/ui/agent?name=x": 200, "/ui/events": 200, "/ui/main.js": 200, "/ui/page.css": 200, "/ui/icon.svg": 200,
		"/ui": 302, "/": 418, "/ui/none": 418, "/ui/page/main.js": 418, "/ui/../ui.go": 418, "/v1/admin/summary": 418, "/uix": 418,
	} {
		if w := ask(t, http.MethodGet, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if w := ask(t, http.MethodGet, "/", "Accept", "text/html,*/*"); w.Code != 302 || w.Header().Get("Location") != "ui/" {
		t.Error("a browser is not sent to the page:", w.Code, w.Header())
	}
	for _, path := range []string{"/ui/", "/"} {
		if w := ask(t, http.MethodPost, path, "Accept", "text/html"); w.Code != 418 {
			t.Error(path, w.Code)
		}
	}
}

func TestHandler_SaysWhatTheBrowserMayDo(t *testing.T) {
	t.Parallel()
	w := ask(t, http.MethodGet, "/ui/", "Accept-Encoding", "gzip, br")
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Encoding": "gzip", "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": policy, "Vary": "Accept-Encoding",
	} {
		if have := w.Header().Get(name); have != want {
			t.Errorf("%s: %q", name, have)
		}
	}
	for _, part := range []string{"script-src 'self';", "require-trusted-types-for 'script'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Error("the policy lacks", part)
		}
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := io.ReadAll(z)
	if plain := ask(t, http.MethodGet, "/ui/").Body.String(); err != nil || string(packed) != plain {
		t.Error("packed it is another page", err)
	}
	if again := ask(t, http.MethodGet, "/ui/", "If-None-Match", w.Header().Get("ETag")); again.Code != 304 || again.Body.Len() > 0 {
		t.Error("it is sent again though it is the same:", again.Code)
	}
	if kind := ask(t, http.MethodGet, "/ui/main.js").Header().Get("Content-Type"); !strings.HasPrefix(kind, "text/javascript") {
		t.Error("a browser refuses a script of the kind", kind)
	}
}

// TestPage_IsAsItsPolicyWantsIt: no script or style in the HTML, no markup made of text, and every file is asked for.
func TestPage_IsAsItsPolicyWantsIt(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("page/*")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	html := ask(t, http.MethodGet, "/ui/").Body.String()
	if m := regexp.MustCompile(`(?i)\son\w+=|\sstyle=|<style|javascript:`).FindString(html); m != "" {
		t.Error("index.html has", m)
	}
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\("`)
	for _, file := range files {
		name := filepath.Base(file)
		if m := forbidden.FindString(ask(t, http.MethodGet, "/ui/"+name).Body.String()); m != "" {
			t.Errorf("%s has %s", name, m)
		}
		if name != index && !strings.Contains(html, `"`+name+`"`) {
			t.Errorf("index.html does not ask for %s at once", name)
		}
	}
}
