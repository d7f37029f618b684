package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/config"
)

const (
	page        = "../../docs/configuration.md"
	configBegin = "<!-- config:begin -->\n"
	configEnd   = "<!-- config:end -->"
)

func TestDocuments_TableOfVariablesIsTheCodesOwn(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), configBegin)
	table, after, ends := strings.Cut(rest, configEnd)
	if !begins || !ends {
		t.Fatalf("%s has no section between %q and %q", page, configBegin, configEnd)
	}
	want := "\n" + config.Table() + "\n"
	if table == want {
		return
	}
	if !*update {
		t.Fatal("the table in docs/configuration.md is not what the code says: go test ./internal/config -run 'Documents|Example' -update")
	}
	if err := os.WriteFile(page, []byte(before+configBegin+want+configEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
