package config_test

import (
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

var update = flag.Bool("update", false, "write .env.example anew")

const exampleFile = "../../.env.example"

func TestTable_HasARowForEveryVariable(t *testing.T) {
	t.Parallel()
	table := config.Table()
	rows := map[string][]string{}
	for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
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
		if err := os.WriteFile(exampleFile, []byte(config.Example()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Parallel()
	got, err := os.ReadFile(exampleFile)
	if err != nil || string(got) != config.Example() {
		t.Fatalf("%v; .env.example is not what the code says: go test ./internal/config -run Example -update", err)
	}
	rows := strings.Count(config.Table(), "\n| `")
	if n := len(regexp.MustCompile(`(?m)^# .+\n[A-Z_]+=`).FindAll(got, -1)); n != rows {
		t.Errorf("%d commented variables, want %d", n, rows)
	}
}

func TestExample_LoadsToTheDefaults(t *testing.T) {
	t.Parallel()
	c, want := load(t, "ENV_FILE="+exampleFile), load(t)
	c.EnvFile, c.Origins, want.Origins = "", nil, nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}
