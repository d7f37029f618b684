package docs

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write into the documents what their commands print")

// TestDocuments_CommandsDoWhatTheDocumentsSay runs each page alone, in a fresh clone, and compares what its blocks
// print with what the page shows.
func TestDocuments_CommandsDoWhatTheDocumentsSay(t *testing.T) {
	t.Parallel()
	repository, enter := origin(t), enterApart(t)
	build := exec.CommandContext(t.Context(), "make", "-C", repository, "build")
	build.Env = environment(repository)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	for _, d := range documents(t) {
		of := d.of("sh")
		if len(of) == 0 {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.check(t, of, runPage(t, repository, t.TempDir(), enter, 5*time.Minute, d.texts(of)...))
		})
	}
}

// of lists the blocks of a language.
func (d document) of(lang string) (of []int) {
	for i, b := range d.blocks {
		if b.lang == lang {
			of = append(of, i)
		}
	}
	return of
}

func (d document) texts(of []int) (texts []string) {
	for _, i := range of {
		texts = append(texts, d.blocks[i].text)
	}
	return texts
}

// check compares what each block printed with what the document shows; -update writes it there instead.
func (d document) check(t *testing.T, of []int, tr trace) {
	t.Helper()
	type change struct {
		at   block
		text string
	}
	var changes []change
	for n, r := range tr.blocks {
		b := d.blocks[of[n]]
		if r.Exit != 0 {
			t.Errorf("%s:%d: exit %d\n%s\n%s%s", d.name, b.line, r.Exit, b.text, r.Stdout, r.Stderr)
			return
		}
		shown := d.printed(of[n])
		if shown == nil || same(shown.lang, shown.text, r.Stdout) {
			continue
		}
		if *update {
			changes = append(changes, change{*shown, strings.TrimSpace(strings.ReplaceAll(r.Stdout, "\r", ""))})
			continue
		}
		t.Errorf("%s:%d: %s\nprints\n%s\n%sthe document shows\n%s", d.name, b.line, b.text, r.Stdout, r.Stderr, shown.text)
	}
	if len(tr.blocks) < len(of) {
		t.Errorf("%s:%d: the page ends before its next block", d.name, d.blocks[of[len(tr.blocks)-1]].line)
	}
	if tr.processes+tr.changes != "" {
		t.Errorf("%s leaves processes %q and changes of files\n%s", d.name, tr.processes, tr.changes)
	}
	slices.Reverse(changes)
	lines := d.lines
	for _, c := range changes {
		end := c.at.line + strings.Count(c.at.text, "\n") + 1
		if c.at.text == "" && lines[c.at.line] == "```" {
			end = c.at.line
		}
		lines = slices.Concat(lines[:c.at.line], strings.Split(c.text, "\n"), lines[end:])
	}
	if len(changes) > 0 {
		if err := os.WriteFile(filepath.Join(root, d.name), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Error(err)
		}
	}
}
