// Package promised compares names with those that were promised: see docs/compatibility.md.
package promised

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var promise = flag.Bool("promise", false, "write what is promised from now on to testdata; see docs/compatibility.md")

// Names compares names, each a line of a file in testdata, with those that were promised: none may be missing. With
// -promise it adds those that are new. Without it a new one is an error as well, so that nobody adds one unawares.
func Names(t testing.TB, file string, names []string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	before := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	var added []string
	for _, name := range names {
		if !slices.Contains(before, name) {
			added = append(added, name)
		}
	}
	for _, name := range before {
		if !slices.Contains(names, name) {
			t.Errorf("%s promises %q, which is gone or has changed", path, name)
		}
	}
	if len(added) == 0 {
		return
	}
	if !*promise {
		t.Errorf("%s lacks, so run the test with -promise once they are sure:\n%s", path, strings.Join(added, "\n"))
		return
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(before, added))))
	if err := os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
