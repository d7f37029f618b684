package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/config"
)

func TestEnvFile_ReadsTheUsualDialects(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{ // want: REDIS_PASSWORD
		{"bare", "REDIS_PASSWORD=secret", "secret"},
		{"bom, CRLF", "\ufeff# hello\r\nREDIS_PASSWORD=secret\r\n", "secret"},
		{"export", "export REDIS_PASSWORD=secret\n", "secret"},
		{"export and a tab", "  export\tREDIS_PASSWORD = secret  \n", "secret"},
		{"a comment behind", "REDIS_PASSWORD=sec#ret # why\n", "sec#ret"},
		{"a # at once", "REDIS_PASSWORD=#secret\n", "#secret"},
		{"only a comment", "REDIS_PASSWORD= # secret\n", ""},
		{"dollars stay", "REDIS_PASSWORD=$HOME$$${A}\n", "$HOME$$${A}"},
		{"equal signs", "REDIS_PASSWORD=c2VjcmV0==\n", "c2VjcmV0=="},
		{"single quotes", `REDIS_PASSWORD=' a "b" \n # ' # why`, ` a "b" \n # `},
		{"double quotes", `REDIS_PASSWORD=" a\t\"b\" \\n # \$ "` + "\n", " a\t\"b\" \\n # $ "},
		{"an unknown escape", `REDIS_PASSWORD="a\b"`, `a\b`},
		{"a quote inside", `REDIS_PASSWORD=it's`, `it's`},
		{"empty quotes", `REDIS_PASSWORD=''`, ""},
		{"the last one counts", "REDIS_PASSWORD=a\nREDIS_PASSWORD=b\n", "b"},
		{"nothing", "\n\n  \n# REDIS_PASSWORD=secret\n", ""},
	}
	for _, tt := range tests {
		c, err := config.Load([]string{"ENV_FILE=" + write(t, tt.text)})
		if err != nil || c.RedisPassword.Reveal() != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, c.RedisPassword.Reveal(), err, tt.want)
		}
		if warned := len(c.Warnings) > 0; warned != (tt.name == "the last one counts") {
			t.Errorf("%s: warnings %q", tt.name, c.Warnings)
		}
	}
}

func TestEnvFile_BrokenLineNamesFileAndNumberAndShowsNoSecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"hunter2", "=hunter2", "hunter-2=x", "export hunter2", "REDIS PASSWORD=hunter2", "A='hunter2", `A="hunter2`, `A="hunter2\"`,
		"A='x'hunter2", `A="x"#hunter2`, "A=hunter2\x00", "A=hunter2\xff",
	} {
		file := write(t, "# first\n\n"+text+"\nLOG_LEVEL=info\n")
		_, err := config.Load([]string{"ENV_FILE=" + file})
		if err == nil || !strings.Contains(err.Error(), file+": line 3: ") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	for _, bad := range []string{write(t, "\xff\xfeA\x00=\x00"), t.TempDir(), "/nowhere/.env", write(t, strings.Repeat("#", 1<<21))} {
		if _, err := config.Load([]string{"ENV_FILE=" + bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

func TestEnvFile_WinsWherePeopleEditItAndElseOnlyFills(t *testing.T) {
	t.Parallel()
	file := write(t, "CIRCUIT_BREAKER_FAILURE_THRESHOLD=10\nCIRCUIT_BREAKER_KEY_PREFIX=file\nCIRCUIT_BREAKER_MODE=\nREDIS_TTL_SECONDS=600\nLOG_LEVEL=debug\n"+
		"REDIS_URL=redis://localhost:6379/0\nLOG_FORMAT=text\nMAX_AGENTS=7\nREDIS_TIMEOUT_MS=9\nENV_FILE=/other\n")
	c := load(t, "ENV_FILE="+file, "CIRCUIT_BREAKER_FAILURE_THRESHOLD=3", "CIRCUIT_BREAKER_KEY_PREFIX=env", "CIRCUIT_BREAKER_MODE=observe", "REDIS_TTL_SECONDS=60",
		"LOG_LEVEL=error", "REDIS_URL=redis://redis:6379/0", "LOG_FORMAT=json", "MAX_AGENTS=", "CIRCUIT_BREAKER_MINIMUM_CALLS=4")
	if c.Policy.FailureThreshold != 10 || c.KeyPrefix != "file" || c.RedisTTL != 10*time.Minute || c.LogLevel.String() != "DEBUG" {
		t.Errorf("the file should win: %+v", c)
	}
	if c.RedisURL.Reveal() != "redis://redis:6379/0" || c.LogFormat != "json" || c.Policy.Mode != "observe" || c.EnvFile != file {
		t.Errorf("the environment should win: %+v", c)
	}
	if c.MaxAgents != 7 || c.RedisTimeout != 9*time.Millisecond {
		t.Errorf("the file should fill: %+v", c)
	}
	want := map[string]string{"failure_threshold": "env_file " + file, "minimum_calls": "environment", "mode": "environment", "timeout_seconds": "default"}
	for field, origin := range want {
		if c.Origins[field] != origin {
			t.Errorf("%s comes from %q, want %q", field, c.Origins[field], origin)
		}
	}
}

// Compose sets REDIS_URL itself; a REDIS_URL_FILE in the mounted .env must not stop the program.
func TestEnvFile_SecretOfTheEnvironmentHidesBothNames(t *testing.T) {
	t.Parallel()
	secret := write(t, "fromfile\n")
	file := write(t, "REDIS_URL_FILE=/nowhere\nREDIS_PASSWORD=x\n")
	c := load(t, "ENV_FILE="+file, "REDIS_URL=redis://redis:6379/0", "REDIS_PASSWORD_FILE="+secret)
	if c.RedisURL.Reveal() != "redis://redis:6379/0" || c.RedisPassword.Reveal() != "fromfile" {
		t.Errorf("got %q, %q", c.RedisURL.Reveal(), c.RedisPassword.Reveal())
	}
	_, err := config.Load([]string{"ENV_FILE=" + write(t, "REDIS_PASSWORD=x\nREDIS_PASSWORD_FILE="+secret)})
	if err == nil || !strings.Contains(err.Error(), "both set") {
		t.Errorf("both in one file: %v", err)
	}
}
