package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

var update = flag.Bool("update", false, "write .env.example and docs/configuration.md anew")

const (
	exampleFile = "../../.env.example"
	page        = "../../docs/configuration.md"
	configBegin = "<!-- config:begin -->\n"
	configEnd   = "<!-- config:end -->"
)

// table is the Markdown table of every variable that docs/configuration.md has between <!-- config:begin --> and
// <!-- config:end -->.
func table() string {
	var b strings.Builder
	b.WriteString("| Variable | Default | Allowed | Meaning | More |\n|---|---|---|---|---|\n")
	for _, v := range documented() {
		def := ""
		if v.def != "" {
			def = "`" + v.def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", v.name, def, cell(v.allowed()), cell(v.doc), more(v.clause))
	}
	return b.String()
}

// more links to a clause of the machine, or to a heading of the documents.
func more(clause string) string {
	page, heading, _ := strings.Cut(clause, "#")
	switch {
	case clause == "":
		return ""
	case strings.HasPrefix(clause, "B"):
		return "[" + clause + "](architecture.md#clauses)"
	case page == "":
		return "[here](#" + heading + ")"
	}
	return "[" + strings.TrimSuffix(page, ".md") + "](" + clause + ")"
}

// cell escapes what would end a cell of the table, or begin italics.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`).Replace(text)
}

// example is .env.example: an ENV_FILE with every variable at its default.
func example() string {
	var b strings.Builder
	b.WriteString("# Every variable at its default. What differs goes into .env; an empty value counts as not set.\n" +
		"# ENV_FILE=.env makes the programs read it; a $ is a $, nothing is expanded.\n")
	for _, v := range documented() {
		fmt.Fprintf(&b, "\n# %s (%s)\n%s=%s\n", v.doc, v.allowed(), v.name, v.def)
	}
	return b.String()
}

func TestTable_HasARowForEveryVariable(t *testing.T) {
	t.Parallel()
	text := table()
	rows := map[string][]string{}
	for _, row := range strings.Split(strings.TrimSpace(text), "\n")[2:] {
		cells := regexp.MustCompile(`(?:[^|\\]|\\.)+`).FindAllString(strings.Trim(row, "|"), -1)
		if len(cells) != 5 {
			t.Errorf("%d cells: %s", len(cells), row)
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[2] == "" || cells[3] == "" {
			t.Errorf("an empty cell: %s", row)
		}
		rows[strings.Trim(cells[0], "`")] = cells
	}
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		if name := "CIRCUIT_BREAKER_" + strings.ToUpper(f.Name); rows[name] == nil {
			t.Errorf("no row for %s", name)
		}
	}
	want := map[string]string{
		"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "`5`", "CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD": "`0`", "CIRCUIT_BREAKER_KEY_PREFIX": "`circuit_breaker`",
		"REDIS_URL": "`embedded://`", "REDIS_URL_FILE": "", "REDIS_PASSWORD_FILE": "", "REDIS_SENTINEL_PASSWORD_FILE": "", "BREAKERD_LISTEN": "`127.0.0.1:18180`",
		"LOG_FORMAT": "`auto`", "ENV_FILE": "", "REPLICA_ID": "", "SHUTDOWN_TIMEOUT_SECONDS": "`20`", "MAX_AGENTS": "`100000`",
	}
	for name, def := range want {
		if rows[name] == nil || rows[name][1] != def {
			t.Errorf("%s: got %q, want default %q", name, rows[name], def)
		}
	}
}

func TestExample_IsComplete(t *testing.T) {
	if *update { // before any parallel test reads it
		if err := os.WriteFile(exampleFile, []byte(example()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Parallel()
	got, err := os.ReadFile(exampleFile)
	if err != nil || string(got) != example() {
		t.Fatalf("%v; .env.example is not what the code says: go test ./internal/config -run Example -update", err)
	}
	rows := strings.Count(table(), "\n| `")
	if n := len(regexp.MustCompile(`(?m)^# .+\n[A-Z_]+=`).FindAll(got, -1)); n != rows {
		t.Errorf("%d commented variables, want %d", n, rows)
	}
}

func TestExample_LoadsToTheDefaults(t *testing.T) {
	t.Parallel()
	c, err := Load([]string{"ENV_FILE=" + exampleFile})
	want, err2 := Load(nil)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	c.EnvFile, c.Origins, want.Origins = "", nil, nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestDocuments_TableOfVariablesIsTheCodesOwn(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), configBegin)
	got, after, ends := strings.Cut(rest, configEnd)
	if !begins || !ends {
		t.Fatalf("%s has no section between %q and %q", page, configBegin, configEnd)
	}
	want := "\n" + table() + "\n"
	if got == want {
		return
	}
	if !*update {
		t.Fatal("the table in docs/configuration.md is not what the code says: go test ./internal/config -run 'Documents|Example' -update")
	}
	if err := os.WriteFile(page, []byte(before+configBegin+want+configEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
