// Package docs holds tests only. They run the commands of the documents, compile their Go code, and compare their links
// and lists with the code.
package docs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// root is the module's, seen from this package.
const root = "../.."

// block is one fenced block of a document.
type block struct {
	lang, text string // text without its final newline
	line       int    // of the opening fence, from 1
	heading    int    // how many headings stand before it
}

// document is one Markdown file.
type document struct {
	name   string // relative to root
	lines  []string
	blocks []block
}

var (
	fence   = regexp.MustCompile("^```(.*)$")
	heading = regexp.MustCompile(`^#{1,6} (.+)$`)
)

// docker is the fence of commands that need a Docker Engine; make stack runs them.
const docker = "sh docker"

// runbook is the fence of commands for an alert; test/monitoring runs them while it fires.
const runbook = "sh runbook"

// languages are the fences that tests understand: sh is run, json or text behind it is what it prints, go stands in an
// example.
func languages() []string { return []string{"sh", docker, runbook, "json", "text", "go", "mermaid"} }

// documents reads every Markdown file of the module.
func documents(t *testing.T) []document {
	t.Helper()
	var docs []document
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains([]string{".git", "bin", "testdata"}, e.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		name, relErr := filepath.Rel(root, path)
		text, err := os.ReadFile(path)
		docs = append(docs, parse(t, filepath.ToSlash(name), string(text)))
		return errors.Join(relErr, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func parse(t *testing.T, name, text string) document {
	t.Helper()
	d := document{name: name, lines: strings.Split(text, "\n")}
	var open *block
	headings := 0
	for i, l := range d.lines {
		m := fence.FindStringSubmatch(l)
		switch {
		case m == nil && open == nil && heading.MatchString(l):
			headings++
		case m != nil && open == nil:
			open = &block{lang: m[1], line: i + 1, heading: headings}
			if !slices.Contains(languages(), m[1]) {
				t.Errorf("%s:%d: a fence says what is in it: one of %q", name, i+1, languages())
			}
		case m != nil:
			open.text = strings.Join(d.lines[open.line:i], "\n")
			d.blocks = append(d.blocks, *open)
			open = nil
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the fence is not closed", name, open.line)
	}
	return d
}

// printed is the block with what d.blocks[i] prints: the next one, under the same heading, if it is json or text.
func (d document) printed(i int) *block {
	if i+1 >= len(d.blocks) {
		return nil
	}
	if b := &d.blocks[i+1]; b.heading == d.blocks[i].heading && (b.lang == "json" || b.lang == "text") {
		return b
	}
	return nil
}

// maxColumns bounds a line of prose; tables are as wide as their cells.
const maxColumns = 120

func TestDocuments_LinesAreShort(t *testing.T) {
	t.Parallel()
	for _, d := range documents(t) {
		if d.name == "docs/performance.md" {
			continue // bench writes its figures
		}
		for i, l := range d.prose() {
			if n := utf8.RuneCountInString(l); n > maxColumns && l[0] != '|' && !strings.HasPrefix(l, "<!--") {
				t.Errorf("%s:%d has %d columns, more than %d", d.name, i+1, n, maxColumns)
			}
		}
	}
}
