package docs

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/breakerd/breakerd"

var (
	packageRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| ([^|]+) \\|$")
	clauseRow  = regexp.MustCompile(`(?m)^\| B(\d+) \| ([^|]+) \|([^|]*)\|([^|]*)\|$`)
	inTicks    = regexp.MustCompile("`([^`]+)`")
)

// imports lists every package of the module, and what of the module it imports outside tests.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var names []string
		for name := range strings.FieldsSeq(line) {
			if ours, ok := strings.CutPrefix(name, module+"/"); ok {
				names = append(names, ours)
			}
		}
		list[names[0]] = names[1:]
	}
	return list
}

func TestArchitecture_ListsEveryPackageAndWhoMayImportIt(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "docs/architecture.md"), "<!-- packages:begin -->")
	table, _, _ = strings.Cut(table, "<!-- packages:end -->")
	importers := map[string][]string{} // the last column
	for _, r := range packageRow.FindAllStringSubmatch(table, -1) {
		importers[r[1]] = strings.Split(strings.ReplaceAll(r[2], "`", ""), ", ")
	}
	used := map[string]bool{}
	list := imports(t)
	for name, imported := range list {
		if importers[name] == nil {
			t.Errorf("docs/architecture.md has no row for %s", name)
		}
		for _, i := range imported {
			at := slices.IndexFunc(importers[i], func(who string) bool {
				return who == "everybody" || who == name || strings.HasPrefix(name, who+"/")
			})
			switch {
			case at >= 0:
				used[i+" by "+importers[i][at]] = true
			case importers[i] != nil:
				t.Errorf("%s imports %s, which docs/architecture.md allows to %v", name, i, importers[i])
			}
		}
	}
	for name, who := range importers {
		if _, ok := list[name]; !ok {
			t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
		}
		for _, w := range who {
			if !used[name+" by "+w] && !slices.Contains([]string{"nobody", "tests", "everybody"}, w) {
				t.Errorf("docs/architecture.md allows %s to %s, where nothing imports it", name, w)
			}
		}
	}
}

// The words of each clause stand in machine/doc.go; the table says where it is done.
func TestArchitecture_SaysWhereEachClauseIsDone(t *testing.T) {
	t.Parallel()
	rows := clauseRow.FindAllStringSubmatch(read(t, "docs/architecture.md"), -1)
	if len(rows) != 26 {
		t.Errorf("docs/architecture.md has rows for %d clauses, want 26", len(rows))
	}
	for i, r := range rows {
		if r[1] != strconv.Itoa(i+1) {
			t.Errorf("row %d is of B%s", i+1, r[1])
		}
		for script := range strings.FieldsFuncSeq(r[4], func(c rune) bool { return c == ' ' || c == ',' }) {
			_, header, _ := strings.Cut(read(t, "lua/"+script+".lua"), "-- Clauses:")
			header, _, _ = strings.Cut(header, "\n")
			if !regexp.MustCompile(`\bB` + r[1] + `\b`).MatchString(header) {
				t.Errorf("docs/architecture.md finds B%s in %s.lua, whose header does not", r[1], script)
			}
		}
	}
}

// namedCode is a link to a source whose text is the name of a function or a type in it.
var namedCode = regexp.MustCompile("\\[`(?:([A-Za-z]+)\\.)?([A-Za-z_]+)`\\]\\(([^)]+\\.(?:go|lua))\\)")

func TestDocuments_NameFunctionsThatAreThere(t *testing.T) {
	t.Parallel()
	found := 0
	for _, d := range documents(t) {
		for i, l := range d.prose() {
			for _, m := range namedCode.FindAllStringSubmatch(l, -1) {
				found++
				of, name, file := m[1], m[2], filepath.Join(filepath.Dir(d.name), m[3])
				form := `(?m)^(?:func|type) ` + name + `\b`
				switch {
				case strings.HasSuffix(file, ".lua"):
					form = `(?m)^\s*(?:local )?function (?:` + of + `\.)?` + name + `\(`
				case of != "":
					form = `(?m)^func \((?:\w+ )?\*?` + of + `(?:\[\w+\])?\) ` + name + `\(`
				}
				if !regexp.MustCompile(form).MatchString(read(t, file)) {
					t.Errorf("%s:%d: %s has no %s", d.name, i+1, file, strings.Trim(inTicks.FindString(m[0]), "`"))
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("%d names found: the pattern is wrong", found)
	}
}
