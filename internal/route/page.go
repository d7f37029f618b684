package route

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageCSS string

//go:embed page/page.js
var pageJS string

// mountPage serves a page for people that reads /openapi.json. The page is one file, which loads nothing else: its
// policy lets a browser run and apply exactly the script and the style within it.
func (a *API) mountPage() {
	page := []byte(strings.NewReplacer("/*style*/", pageCSS, "/*script*/", pageJS).Replace(pageHTML))
	policy := fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "+
		"trusted-types 'none'", sourceHash(pageJS), sourceHash(pageCSS))
	a.mount(Operation{
		Route: "GET /docs", ID: "docs", Tag: "document", Summary: "The same document, as a page to read; works offline",
		Role: access.Read, ContentType: "text/html", Out: &huma.Schema{Type: huma.TypeString},
	}, func(w http.ResponseWriter, _ *Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		_, _ = w.Write(page)
	})
}

// sourceHash names a text in a Content-Security-Policy.
func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
