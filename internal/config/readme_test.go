package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/config"
)

const (
	readme      = "../../README.md"
	configBegin = "<!-- config:begin -->\n"
	configEnd   = "<!-- config:end -->"
)

// The table in README.md is the code's own.
func TestReadmeTableIsComplete(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), configBegin)
	table, after, ends := strings.Cut(rest, configEnd)
	if !begins || !ends {
		t.Fatalf("README.md has no section between %q and %q", configBegin, configEnd)
	}
	want := "\n" + config.Table() + "\n"
	if table == want {
		return
	}
	if !*update {
		t.Fatal("the table in README.md is not what the code says: go test ./internal/config -run Readme -update")
	}
	if err := os.WriteFile(readme, []byte(before+configBegin+want+configEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
