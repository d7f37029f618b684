package docs

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// read reads a file of the module.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	requireBlock = regexp.MustCompile(`(?s)require \((.*?)\n\)`)
	requirement  = regexp.MustCompile(`(?m)^\t(\S+) v\S+( // indirect)?$`)
	namedModule  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
)

func TestDependencies_EachDirectOneHasItsReason(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, m := range namedModule.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		named[m[1]] = true
	}
	required := map[string]bool{}
	for _, file := range []string{"go.mod", "bench/go.mod", "contrib/grpc/go.mod", "contrib/otel/go.mod", "deploy/monitoring/grafana/go.mod", "test/envoy/go.mod", "test/manifests/go.mod", "test/page/go.mod"} {
		direct := directly(read(t, file))
		if len(direct) == 0 {
			t.Errorf("%s: no requirement was found: the pattern is wrong", file)
		}
		for _, m := range direct {
			required[m] = true
			if !named[m] && m != "github.com/breakerd/breakerd" && m != "gobreaker.store/v2" { // ourselves; gobreaker under another name
				t.Errorf("docs/dependencies.md does not say what %s is for", m)
			}
		}
	}
	for m := range named {
		if !required[m] {
			t.Errorf("docs/dependencies.md names %s, which no go.mod requires directly", m)
		}
	}
}

// directly gives the modules that a go.mod requires, but for the indirect ones.
func directly(mod string) (modules []string) {
	for _, b := range requireBlock.FindAllStringSubmatch(mod, -1) {
		for _, m := range requirement.FindAllStringSubmatch(b[1], -1) {
			if m[2] == "" {
				modules = append(modules, m[1])
			}
		}
	}
	return modules
}

func TestKeys_EachFieldOfControlIsDocumented(t *testing.T) {
	t.Parallel()
	doc := read(t, "docs/keys.md")
	fields := regexp.MustCompile(`\{name: "(\w+)"`).FindAllStringSubmatch(read(t, "pkg/breaker/machine/fields.go"), -1)
	if len(fields) < 20 {
		t.Fatalf("%d fields found: the pattern is wrong", len(fields))
	}
	rows := regexp.MustCompile("(?m)^\\| ((?:`\\w+`(?:, )?)+) \\|").FindAllStringSubmatch(doc, -1)
	named := map[string]bool{}
	for _, r := range rows {
		for f := range strings.SplitSeq(r[1], ", ") {
			named[strings.Trim(f, "`")] = true
		}
	}
	for _, f := range fields {
		if !named[f[1]] {
			t.Errorf("docs/keys.md does not say what field %s of :control holds", f[1])
		}
	}
}

// termRow is a row of docs/glossary.md: anchor, term, meaning.
var termRow = regexp.MustCompile(`(?m)^\| <a id="([^"]*)"></a>([^|]+) \| ([^|]+) \|[^|]*\|$`)

func TestGlossary_IsSortedAndHoldsNoWordThatNobodyUses(t *testing.T) {
	t.Parallel()
	used := spoken(t)
	rows := termRow.FindAllStringSubmatch(read(t, "docs/glossary.md"), -1)
	if len(rows) < 50 {
		t.Fatalf("%d terms found: the pattern is wrong", len(rows))
	}
	for i, r := range rows {
		term := r[2]
		if r[1] != slug(term) {
			t.Errorf("the anchor of %q is %q, want %q", term, r[1], slug(term))
		}
		if i > 0 && rows[i-1][2] >= term {
			t.Errorf("%q stands behind %q", term, rows[i-1][2])
		}
		if !strings.HasSuffix(r[3], ".") {
			t.Errorf("%q is explained by no sentence: %s", term, r[3])
		}
		if !strings.Contains(used, strings.ReplaceAll(term, "-", " ")) {
			t.Errorf("no other document and no source says %q", term)
		}
	}
}

// spoken is all that documents and sources say, but for the glossary: in lower case, with a blank for - and _.
func spoken(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || e.Name() == "bin"):
			return filepath.SkipDir
		case e.Name() == "glossary.md" || !slices.Contains([]string{".go", ".lua", ".md"}, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		b.Write(bytes.ToLower(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("-", " ", "_", " ").Replace(b.String())
}

// makeTarget is a use of make, as in make fuzz FUZZTIME=1s.
var makeTarget = regexp.MustCompile(`^make ([a-z][a-z-]*)`)

func TestDocuments_NameTargetsThatMakeHas(t *testing.T) {
	t.Parallel()
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	used := 0
	for _, d := range documents(t) {
		for i, l := range d.lines {
			for _, code := range inTicks.FindAllStringSubmatch(l, -1) {
				m := makeTarget.FindStringSubmatch(code[1])
				if m == nil {
					continue
				}
				used++
				if !targets[m[1]] {
					t.Errorf("%s:%d: the Makefile has no target %s", d.name, i+1, m[1])
				}
			}
		}
	}
	if used < 10 {
		t.Errorf("%d uses of make found: the pattern is wrong", used)
	}
}

// goTest is a use of go test; -C names the module, -run the tests, with \| for | in a table.
var goTest = regexp.MustCompile(`go (?:-C (\S+) )?test ((?:[^'\x60&]|'[^']*')+)`)

func TestDocuments_NameTestsThatAreThere(t *testing.T) {
	t.Parallel()
	used := 0
	for _, d := range documents(t) {
		for i, l := range d.lines {
			for _, m := range goTest.FindAllStringSubmatch(l, -1) {
				args, packages, run := strings.Fields(m[2]), "", ""
				for n, a := range args {
					switch {
					case strings.HasPrefix(a, "./"), a == ".":
						packages += " " + filepath.Join(m[1], strings.TrimSuffix(a, "/..."))
					case a == "-run" && n+1 < len(args):
						run = strings.ReplaceAll(strings.Trim(args[n+1], "'"), `\|`, "|")
					}
				}
				for name := range strings.SplitSeq(run, "|") {
					used++
					if !hasTest(t, strings.Fields(packages), name) {
						t.Errorf("%s:%d: %q: no test of%s has %q in its name", d.name, i+1, m[0], packages, name)
					}
				}
			}
		}
	}
	if used < 10 {
		t.Errorf("%d uses of go test found: the pattern is wrong", used)
	}
}

// hasTest says whether a test in one of the directories, or below, matches.
func hasTest(t *testing.T, dirs []string, pattern string) (found bool) {
	t.Helper()
	form := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)
	name := regexp.MustCompile(pattern)
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || found || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range form.FindAllSubmatch(text, -1) {
				found = found || name.Match(m[1])
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return found
}

// Go code in a document stands, word for word, in an example that is compiled and run.
func TestDocuments_GoCodeIsThatOfTheExamples(t *testing.T) {
	t.Parallel()
	examples := exampleSource(t)
	blocks := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.lang != "go" {
				continue
			}
			blocks++
			found := false
			for _, indent := range []string{"", "\t", "\t\t"} {
				found = found || strings.Contains(examples, "\n"+indented(b.text, indent)+"\n")
			}
			if !found {
				t.Errorf("%s:%d: this code stands in no example_test.go:\n%s", d.name, b.line, b.text)
			}
		}
	}
	if blocks == 0 {
		t.Error("no block of Go was found")
	}
}

// exampleSource is the text of every file of examples: example_test.go, example_adopting_test.go.
func exampleSource(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || e.Name() == "bin"):
			return filepath.SkipDir
		case !strings.HasPrefix(e.Name(), "example_") || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		b.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func indented(text, by string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = by + l
		}
	}
	return strings.Join(lines, "\n")
}
