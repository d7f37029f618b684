// Package ui is breakerd's page for people: at /ui/, and at / for a browser. Its files are served as they were written,
// without a build. All that the page shows and does goes through the API, so it needs no role of its own.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed page
var page embed.FS

// prefix is the path that the page is under.
const prefix = "/ui/"

// index is the file that every screen begins with.
const index = "index.html"

// screens are the paths below prefix that index.html answers; the page's script chooses the screen.
func screens() []string { return []string{"", "agent", "events", "replicas", "controls", "audit"} }

// policy lets the page run its own scripts only, and no text become a script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; " +
	"trusted-types 'none'"

// file is one file as it is served.
type file struct {
	kind, tag   string // Content-Type, ETag
	plain, gzip []byte
}

// Handler serves the page, and what is not the page's through next. A browser that asks for / is sent to the page.
func Handler(next http.Handler) (http.Handler, error) {
	files, err := load()
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		name, under := strings.CutPrefix(r.URL.Path, prefix)
		switch f := files[name]; {
		case !reads || !under && (r.URL.Path != "/" || !wantsHTML(r)) && r.URL.Path+"/" != prefix, under && f == nil:
			next.ServeHTTP(w, r)
		case !under:
			w.Header().Set("Location", strings.TrimPrefix(prefix, "/")) // relative: a proxy may serve us below a path
			w.WriteHeader(http.StatusFound)
		default:
			f.serve(w, r)
		}
	}), nil
}

// wantsHTML reports whether a request is a browser's for a page.
func wantsHTML(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// load reads the files by the names that they are asked for.
func load() (map[string]*file, error) {
	root, err := fs.Sub(page, "page")
	if err != nil {
		return nil, err
	}
	files := map[string]*file{}
	names, err := fs.Glob(root, "*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		plain, err := fs.ReadFile(root, name)
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(plain); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(plain)
		files[name] = &file{
			kind: mime.TypeByExtension(path.Ext(name)), plain: plain, gzip: packed.Bytes(),
			tag: strconv.Quote(base64.RawURLEncoding.EncodeToString(sum[:12])),
		}
	}
	for _, screen := range screens() {
		files[screen] = files[index]
	}
	return files, nil
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // asked for again each time, and answered with 304 while it is the same
	h.Set("Vary", "Accept-Encoding")
	h.Set("ETag", f.tag)
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzip
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the browser is gone if that fails; a HEAD has no body, which net/http sees to
}
