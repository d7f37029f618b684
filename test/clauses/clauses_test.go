// Package clauses holds one test: that every clause of the machine is cited where it is documented, done and tested.
package clauses

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
)

// root is the module's, seen from this package.
const root = "../.."

const lastClause = 26

// unbuilt are the clauses that nothing needs to cite yet.
func unbuilt() map[int]string {
	return map[int]string{24: "the fleet gate is not built yet"}
}

// scriptless are the clauses that do not concern a script.
func scriptless() map[int]string {
	return map[int]string{24: "each replica applies the gate before it asks a script"}
}

func TestEveryClauseIsDocumentedScriptedAndTested(t *testing.T) {
	t.Parallel()
	places := []struct {
		name  string
		cites map[int]bool
		not   map[int]string
	}{
		{"doc.go", cited(t, "pkg/breaker/machine/doc.go", everywhere), unbuilt()},
		{"a script's header", headers(t), scriptless()},
		{"a test", tests(t), unbuilt()},
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for n := 1; n <= lastClause; n++ {
		fmt.Fprintf(table, "B%d", n)
		for _, p := range places {
			state := "cited"
			if reason, excused := p.not[n]; !p.cites[n] && excused {
				state = reason
			} else if !p.cites[n] {
				state = "MISSING"
				t.Fail()
			}
			fmt.Fprintf(table, "\t%s: %s", p.name, state)
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush()
	if t.Failed() {
		t.Logf("clauses of the machine and who cites them:\n%s", text.String())
	}
}

// headers are the clauses that the "-- Clauses:" lines of the scripts name.
func headers(t *testing.T) map[int]bool {
	t.Helper()
	out := map[int]bool{}
	scripts, err := filepath.Glob(filepath.Join(root, "lua", "*.lua"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		_, header, found := strings.Cut(read(t, path), "\n-- Clauses:")
		if !found {
			t.Errorf("%s has no line \"-- Clauses:\"", path)
		}
		header, _, _ = strings.Cut(header, "\n")
		add(out, regexp.MustCompile(`\bB(\d+)\b`), header)
	}
	return out
}

// everywhere finds "[B6]" and "[B12]–[B15]" in any text.
var everywhere = regexp.MustCompile(`\[B(\d+)\](?:–\[B(\d+)\])?`)

// single finds "[B6]" only: that a test of [B1]–[B25] exists says little about B6.
var single = regexp.MustCompile(`\[B(\d+)\](?:[^–]|$)`)

// tests are the clauses that a comment of a test or a line "# [B6] ..." of a transcript names.
func tests(t *testing.T) map[int]bool {
	t.Helper()
	out := map[int]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "clauses" || d.Name() == "branchcount") {
			return filepath.SkipDir // the last two cite clauses as examples
		}
		transcript := strings.Contains(filepath.ToSlash(path), "/storetest/testdata/") && strings.HasSuffix(path, ".txt")
		if !transcript && !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		for line := range strings.Lines(read(t, path)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "#") && transcript || strings.HasPrefix(line, "//") && !transcript {
				add(out, single, line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// cited are the clauses that a file cites; a file that is missing cites none.
func cited(t *testing.T, path string, form *regexp.Regexp) map[int]bool {
	t.Helper()
	out := map[int]bool{}
	add(out, form, read(t, filepath.Join(root, path)))
	return out
}

// add takes the clauses out of text; with two numbers, all between them too.
func add(out map[int]bool, form *regexp.Regexp, text string) {
	for _, m := range form.FindAllStringSubmatch(text, -1) {
		from, _ := strconv.Atoi(m[1])
		to := from
		if len(m) > 2 && m[2] != "" {
			to, _ = strconv.Atoi(m[2])
		}
		for n := from; n <= to; n++ {
			out[n] = true
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v", err)
	}
	return string(b)
}
