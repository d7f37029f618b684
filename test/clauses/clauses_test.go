// Package clauses holds one test: every clause of the machine [B1]–[B26] is documented, implemented and tested
// somewhere that says so.
package clauses

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// root is the module's directory, seen from this package.
const root = "../.."

const lastClause = 26

// unbuilt is the fleet-wide gate, which nothing needs to cite yet. Its scripts will not either: a replica applies the
// gate before it asks a script.
const unbuilt = 24

var (
	// item is a clause in the list of doc.go: "//   - [B6] A run …".
	item = regexp.MustCompile(`(?m)^//   - \[B(\d+)\]`)
	// citation is "[B6]" but not "[B1]–[B25]": a test of so many clauses says little about each.
	citation = regexp.MustCompile(`\[B(\d+)\](?:[^–]|$)`)
	// headed is a clause in the header line of a script: "-- Clauses: B6 B7".
	headed = regexp.MustCompile(`\bB(\d+)\b`)
)

func TestClauses_AreDocumentedScriptedAndTested(t *testing.T) {
	t.Parallel()
	for place, cited := range map[string]map[int]bool{
		"the list of pkg/breaker/machine/doc.go": numbers(item, read(t, filepath.Join(root, "pkg/breaker/machine/doc.go"))),
		"the header of a script":                 numbers(headed, scriptHeaders(t)),
		"the comment of a test":                  numbers(citation, testComments(t)),
	} {
		for n := 1; n <= lastClause; n++ {
			if !cited[n] && n != unbuilt {
				t.Errorf("B%d is missing in %s", n, place)
			}
		}
	}
}

// scriptHeaders are the "-- Clauses:" lines of all scripts.
func scriptHeaders(t *testing.T) string {
	t.Helper()
	scripts, err := filepath.Glob(filepath.Join(root, "lua", "*.lua"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var all strings.Builder
	for _, path := range scripts {
		_, header, found := strings.Cut(read(t, path), "\n-- Clauses:")
		if !found {
			t.Errorf("%s has no line \"-- Clauses:\"", path)
		}
		header, _, _ = strings.Cut(header, "\n")
		all.WriteString(header + "\n")
	}
	return all.String()
}

// testComments are the comments of all tests and transcripts that have lines of their own.
func testComments(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "clauses" || d.Name() == "branchcount") {
			return filepath.SkipDir // the last two cite clauses as examples
		}
		comment := "//"
		if strings.Contains(filepath.ToSlash(path), "/storetest/testdata/") {
			comment = "#"
		} else if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		for line := range strings.Lines(read(t, path)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, comment) {
				all.WriteString(line + "\n")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func numbers(form *regexp.Regexp, text string) map[int]bool {
	out := map[int]bool{}
	for _, m := range form.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		out[n] = true
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v", err)
	}
	return string(b)
}
