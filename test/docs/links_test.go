package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inCode  = regexp.MustCompile("`[^`]*`")
	anchor  = regexp.MustCompile(`<a id="([^"]+)"></a>`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// slug is the anchor that GitHub gives a heading.
func slug(text string) string {
	return strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(text), ""), " ", "-")
}

// prose is the document without its blocks.
func (d document) prose() []string {
	lines := append([]string(nil), d.lines...)
	for _, b := range d.blocks {
		for i := b.line - 1; i <= b.line+strings.Count(b.text, "\n")+1; i++ {
			lines[i] = ""
		}
	}
	return lines
}

func (d document) anchors() map[string]bool {
	out := map[string]bool{}
	for _, l := range d.prose() {
		if m := heading.FindStringSubmatch(l); m != nil {
			out[slug(m[1])] = true
		}
		for _, m := range anchor.FindAllStringSubmatch(l, -1) {
			out[m[1]] = true
		}
	}
	return out
}

func TestDocuments_LinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	anchors := map[string]map[string]bool{}
	for _, d := range docs {
		anchors[d.name] = d.anchors()
	}
	links := 0
	for _, d := range docs {
		for i, l := range d.prose() {
			for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(l, ""), -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				links++
				path, at, _ := strings.Cut(m[1], "#")
				target := d.name
				if path != "" {
					target = filepath.ToSlash(filepath.Join(filepath.Dir(d.name), path))
				}
				if _, err := os.Stat(filepath.Join(root, target)); err != nil {
					t.Errorf("%s:%d: %s: no such file", d.name, i+1, m[1])
				} else if at != "" && !anchors[target][at] {
					t.Errorf("%s:%d: %s: no such heading in %s", d.name, i+1, m[1], target)
				}
			}
		}
	}
	if links == 0 {
		t.Error("no link was found: the pattern is wrong")
	}
}
