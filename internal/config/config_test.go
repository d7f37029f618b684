package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func load(t *testing.T, environ ...string) config.Config {
	t.Helper()
	c, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad_NothingSetGivesTheDefaults(t *testing.T) {
	t.Parallel()
	c := load(t)
	origins := map[string]string{}
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		origins[f.Name] = "default"
	}
	want := config.Config{
		Replica: config.Replica{
			Policy: breaker.DefaultPolicy(), Origins: origins, KeyPrefix: "circuit_breaker", RedisURL: "embedded://",
			FlushInterval: 10 * time.Millisecond, MaxStaleness: time.Second,
			RedisTTL: time.Hour, RedisTimeout: 250 * time.Millisecond, OnStoreReset: "restore",
			MaxAgents: 100_000, NewAgents: 1000, UnknownAgents: "track",
		},
		Listen: "127.0.0.1:18180", MetricsMaxAgents: 1000, ShutdownTimeout: 20 * time.Second, LogFormat: "auto",
		BridgeListen: "127.0.0.1:8000", ParallelSteps: 8, Executions: 32, InboundAgent: "header:X-Agent-ID",
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if err := errors.Join(c.CheckListen(), c.CheckBridge()); err != nil {
		t.Error(err)
	}
}

func TestLoad_ReadsEachVariable(t *testing.T) {
	t.Parallel()
	c := load(t, "CIRCUIT_BREAKER_KEY_PREFIX=cb:prod", "REDIS_URL=redis://u:p@h/0", "REDIS_USERNAME=app", "REDIS_PASSWORD= s ",
		"REDIS_SENTINEL_PASSWORD=t", "REDIS_TTL_SECONDS=7200.5", "REDIS_TIMEOUT_MS=100", "ON_STORE_RESET=Forget", "BREAKERD_LISTEN=:80", "BREAKERD_AUTH=None",
		"REPLICA_ID=r1", "REPLICA_LABELS=canary=true,zone=a", "MAX_AGENTS=5", "NEW_AGENTS_PER_SECOND=9", "UNKNOWN_AGENTS=refuse", "METRICS_MAX_AGENTS=0", "SHUTDOWN_TIMEOUT_SECONDS=0.5", "LOG_LEVEL=WARN", "LOG_FORMAT=JSON",
		"BRIDGE_LISTEN=:81", "BRIDGE_AUTH=None", "AGENTS_FILE=a.json", "WORKFLOWS_DIR=w", "WORKFLOW_PARALLEL_STEPS=2", "WORKFLOW_PARALLEL_EXECUTIONS=3", "INBOUND_LISTEN=:82",
		"INBOUND_URL=http://api", "INBOUND_AGENT=jwt:sub", "INBOUND_JWT_KEY_FILE=k.pem", "INBOUND_JWT_SECRET_FILE=s", "TLS_CERT_FILE=c.pem", "TLS_KEY_FILE=k.pem", "TLS_CLIENT_CA_FILE=ca.pem", "DEBUG_LISTEN=:6", "CLIENT_RATE_PER_SECOND=3", "MAX_REQUESTS_IN_FLIGHT=4", "SHUTDOWN_DELAY_SECONDS=1",
		"CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=5", "CIRCUIT_BREAKER_MAX_STALENESS_MS=2000", "CIRCUIT_BREAKER_TIMEOUT_SECONDS= 0.25 ", "CIRCUIT_BREAKER_ENABLED=false", "CIRCUIT_BREAKER_MODE=", "HOME=/root", "odd", "=C:=x")
	policy := breaker.DefaultPolicy()
	policy.Disabled, policy.Timeout = true, 250*time.Millisecond
	want := config.Config{
		Replica: config.Replica{
			FlushInterval: 5 * time.Millisecond, MaxStaleness: 2 * time.Second,
			Policy: policy, Origins: c.Origins, KeyPrefix: "cb:prod", RedisURL: "redis://u:p@h/0", RedisUsername: "app", RedisPassword: " s ",
			RedisSentinelPassword: "t", RedisTTL: 7200500 * time.Millisecond, RedisTimeout: 100 * time.Millisecond, OnStoreReset: "forget",
			ReplicaID: "r1", ReplicaLabels: map[string]string{"canary": "true", "zone": "a"}, MaxAgents: 5, NewAgents: 9, UnknownAgents: "refuse", AgentsFile: "a.json",
		},
		Listen: ":80", Auth: "none", ShutdownTimeout: 500 * time.Millisecond, LogLevel: slog.LevelWarn, LogFormat: "json",
		BridgeListen: ":81", BridgeAuth: "none", WorkflowsDir: "w", ParallelSteps: 2, Executions: 3, ShutdownDelay: time.Second,
		InboundListen: ":82", InboundURL: "http://api", InboundAgent: "jwt:sub", InboundKeyFile: "k.pem", InboundSecretFile: "s",
		TLSCertFile: "c.pem", TLSKeyFile: "k.pem", TLSClientCAFile: "ca.pem", DebugListen: ":6", ClientRate: 3, MaxRequests: 4,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	for field, origin := range map[string]string{"timeout_seconds": "environment", "enabled": "environment", "mode": "default"} {
		if c.Origins[field] != origin {
			t.Errorf("%s comes from %q, want %q", field, c.Origins[field], origin)
		}
	}
}

func TestLoad_BadValueNamesVariableValueAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	tests := []struct{ variable, value, allowed string }{
		{"CIRCUIT_BREAKER_ENABLED", "yes", "true or false"},
		{"CIRCUIT_BREAKER_FAILURE_THRESHOLD", "256", "from 0 to 255"},
		{"CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD", "50%", "from 0 to 1"},
		{"CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD", "NaN", "from 0 to 1"},
		{"CIRCUIT_BREAKER_TIMEOUT_SECONDS", "60s", "seconds from 0.001"},
		{"CIRCUIT_BREAKER_TIMEOUT_SECONDS", "0.0005", "seconds from 0.001"},
		{"CIRCUIT_BREAKER_TIMEOUT_SECONDS", "7200", "CIRCUIT_BREAKER_TIMEOUT_MAX_SECONDS (3600)"},
		{"CIRCUIT_BREAKER_MODE", "shadow", `"observe"`},
		{"CIRCUIT_BREAKER_KEY_PREFIX", "{a}", "at most 64 of"},
		{"REDIS_TTL_SECONDS", "0", "seconds from 1 to"},
		{"REDIS_TIMEOUT_MS", "0.5", "whole number from 1"},
		{"BREAKERD_AUTH", "token", `one of ["none"]`},
		{"REPLICA_ID", "a b", "at most 64 of"},
		{"REPLICA_LABELS", "canary", "at most 16 of NAME=VALUE"},
		{"REPLICA_LABELS", "a=1,a=2", "each name once"},
		{"REPLICA_LABELS", "a=1,", "at most 16"},
		{"REPLICA_LABELS", "a=x y", "at most 16"},
		{"REPLICA_LABELS", "a=b=c", "at most 16"},
		{"REPLICA_LABELS", strings.Repeat("a", 65) + "=1", "at most 16"},
		{"MAX_AGENTS", "-1", "whole number from 1"},
		{"METRICS_MAX_AGENTS", "x", "whole number from 0"},
		{"NEW_AGENTS_PER_SECOND", "-1", "whole number from 0"},
		{"UNKNOWN_AGENTS", "ban", `"track" "refuse"`},
		{"SHUTDOWN_TIMEOUT_SECONDS", "-1", "seconds from 0"},
		{"LOG_LEVEL", "loud", `"debug" "info" "warn" "error"`},
		{"LOG_FORMAT", "xml", `"auto" "text" "json"`},
	}
	for _, tt := range tests {
		_, err := config.Load([]string{tt.variable + "=" + tt.value})
		var bad *config.Error
		if !errors.As(err, &bad) || bad.Name != tt.variable || !strings.Contains(bad.Allowed, tt.allowed) {
			t.Errorf("%s=%s: got %v, want it to allow %q", tt.variable, tt.value, err, tt.allowed)
		}
	}
}

func TestLoad_ReportsAllBadValuesAtOnce(t *testing.T) {
	t.Parallel()
	file := write(t, "LOG_FORMAT=xml\nbroken\nCIRCUIT_BREAKER_MODE=shadow\n")
	_, err := config.Load([]string{"ENV_FILE=" + file, "MAX_AGENTS=none", "REDIS_PASSWORD=a", "REDIS_PASSWORD_FILE=b", "CIRCUIT_BREAKER_TIMEOUT_SECONDS=7200"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`LOG_FORMAT="xml"`, "(in " + file + ")", file + ": line 2: ", "CIRCUIT_BREAKER_MODE", "MAX_AGENTS", "REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	_, err = config.Load([]string{"MAX_AGENTS=none", "CIRCUIT_BREAKER_TIMEOUT_SECONDS=7200"})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want two errors, got %v", err)
	}
}

func TestSecret_ComesFromItsFile(t *testing.T) {
	t.Parallel()
	two, sentinels := write(t, " two\nlines \r\n"), write(t, "x\n\n")
	c := load(t, "REDIS_URL_FILE="+write(t, "redis://h/0\n"), "REDIS_PASSWORD_FILE="+two, "REDIS_SENTINEL_PASSWORD_FILE="+sentinels)
	if c.RedisPasswordFile != two || c.RedisSentinelPasswordFile != sentinels {
		t.Errorf("got the files %q and %q", c.RedisPasswordFile, c.RedisSentinelPasswordFile)
	}
	if c.RedisURL.Reveal() != "redis://h/0" || c.RedisPassword.Reveal() != " two\nlines " || c.RedisSentinelPassword.Reveal() != "x\n" {
		t.Errorf("got %q, %q, %q", c.RedisURL.Reveal(), c.RedisPassword.Reveal(), c.RedisSentinelPassword.Reveal())
	}
}

func TestSecret_BadFileNamesVariableAndPath(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, path := range []string{missing, t.TempDir(), write(t, "\n"), write(t, strings.Repeat("x", 1<<17))} {
		_, err := config.Load([]string{"REDIS_PASSWORD_FILE=" + path})
		if err == nil || !strings.Contains(err.Error(), "REDIS_PASSWORD_FILE: ") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %.300v", path, err)
		}
		if path == missing && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v is no fs.ErrNotExist", err)
		}
	}
}

func TestSecret_IsNeverShown(t *testing.T) {
	t.Parallel()
	c := load(t, "REDIS_URL=redis://:hunter2@h/0", "REDIS_PASSWORD=hunter2", "REDIS_SENTINEL_PASSWORD=hunter2")
	asJSON, err := json.Marshal([]config.Secret{c.RedisURL, c.RedisPassword, c.RedisSentinelPassword})
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("config", "config", c, "password", c.RedisPassword)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q %x %d", c, c, c, c.RedisURL, c.RedisURL, c.RedisURL, any(c.RedisURL)), fmt.Sprint(c.RedisPassword, &c), string(asJSON), logged.String()} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e746572") {
			t.Errorf("shown: %s", text)
		}
	}
	_, err = config.Load([]string{"REDIS_PASSWORD=hunter2", "REDIS_PASSWORD_FILE=/nowhere", "MAX_AGENTS=x"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("shown: %v", err)
	}
}

func TestCheckListen_OnlyLoopbackNeedsNoAuth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		listen, auth string
		ok, open     bool
	}{
		{"127.0.0.1:18180", "", true, false},
		{"127.8.9.1:0", "", true, false},
		{"[::1]:18180", "", true, false},
		{"[::ffff:127.0.0.1]:1", "", true, false},
		{"LocalHost:18180", "", true, false},
		{":18180", "", false, true},
		{"0.0.0.0:18180", "", false, true},
		{"[::]:18180", "", false, true},
		{"10.0.0.1:18180", "", false, true},
		{"localhost.example.com:18180", "", false, true},
		{"0.0.0.0:18180", "none", true, false},
		{"127.0.0.1", "", false, false},
		{"127.0.0.1:x", "none", false, false},
		{"127.0.0.1:70000", "", false, false},
		{"::1:18180", "", false, false},
		{"http://127.0.0.1:18180", "none", false, false},
		{"user@localhost:18180", "", false, false},
	}
	for _, tt := range tests {
		err := load(t, "BREAKERD_LISTEN="+tt.listen, "BREAKERD_AUTH="+tt.auth).CheckListen()
		if (err == nil) != tt.ok || errors.Is(err, config.ErrOpenListener) != tt.open {
			t.Errorf("%s, auth %q: got %v", tt.listen, tt.auth, err)
		}
		if err != nil && !strings.Contains(err.Error(), "BREAKERD_LISTEN=") {
			t.Errorf("%v does not name the variable", err)
		}
	}
}

func TestCheckListen_TokensAndCertificatesOpenAListener(t *testing.T) {
	t.Parallel()
	for _, environ := range []string{
		"AUTH_FILE=f", "AUTH_FILE=f BRIDGE_AGENTS_AUTH=required", "AUTH_FILE=f BREAKERD_AUTH=none BRIDGE_AUTH=none",
		"TLS_CERT_FILE=c TLS_KEY_FILE=k TLS_CLIENT_CA_FILE=a",
	} {
		cfg := load(t, strings.Fields("BREAKERD_LISTEN=:1 BRIDGE_LISTEN=:2 "+environ)...)
		if err := errors.Join(cfg.CheckListen(), cfg.CheckBridge()); err != nil || !cfg.Guarded() {
			t.Errorf("%s: %v", environ, err)
		}
	}
	if err := load(t, "BRIDGE_AGENTS_AUTH=required").CheckBridge(); err == nil || !strings.Contains(err.Error(), "needs AUTH_FILE") {
		t.Error(err)
	}
}

func TestCheckBridge_ListenersAndInbound(t *testing.T) {
	t.Parallel()
	tests := []struct{ environ, want string }{
		{"BRIDGE_LISTEN=0.0.0.0:8000", "BRIDGE_AUTH=none if whoever"},
		{"BRIDGE_LISTEN=8000", `BRIDGE_LISTEN="8000" is not allowed: want host:port`},
		{"INBOUND_URL=http://api", "INBOUND_URL is set, but not INBOUND_LISTEN"},
		{"INBOUND_LISTEN=:1", "INBOUND_LISTEN is set, but not INBOUND_URL"},
		{"INBOUND_LISTEN=1", `INBOUND_LISTEN="1" is not allowed`},
		{"TLS_CERT_FILE=c", "one of TLS_CERT_FILE and TLS_KEY_FILE"},
		{"TLS_CLIENT_CA_FILE=c", "TLS_CLIENT_CA_FILE is set, but not TLS_CERT_FILE"},
		{"DEBUG_LISTEN=0.0.0.0:6060", `DEBUG_LISTEN="0.0.0.0:6060" is not allowed: want a loopback address`},
		{"DEBUG_LISTEN=:6060", `DEBUG_LISTEN=":6060" is not allowed`},
		{"DEBUG_LISTEN=6060", "want host:port"},
		{"DEBUG_LISTEN=localhost:6060", ""},
		{"BRIDGE_LISTEN=[::1]:8000", ""},
		{"BREAKERD_LISTEN=0.0.0.0:1", ""},
	}
	for _, tt := range tests {
		err := load(t, tt.environ).CheckBridge()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.environ, err, tt.want)
		}
	}
}

// A program of somebody else's has variables of its own, which are none of ours.
func TestLoadReplica_ReadsItsOwnVariablesAlone(t *testing.T) {
	t.Parallel()
	file := write(t, "CIRCUIT_BREAKER_FAILURE_THRESHOLD=4\nMAX_AGENTS=9\nLOG_FORMAT=loud\nBREAKERD_AUTH=maybe\n")
	r, err := config.LoadReplica([]string{
		"ENV_FILE=" + file, "REPLICA_ID=r1", "REDIS_TTL_SECONDS=600", "CIRCUIT_BREAKER_FAILURE_TRESHOLD=2", "MAX_AGENTS=7",
		"LOG_LEVEL=verbose", "BRIDGE_LISTEN=nowhere", "SHUTDOWN_TIMEOUT_SECONDS=long", "WORKFLOW_PARALLEL_STEPS=none", "BREAKERD_ADDR=x",
	}, config.Own{Prefix: "mine", ReplicaID: "other", Policy: breaker.Policy{FailureThreshold: 9, MinimumCalls: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Policy.FailureThreshold != 4 || r.ReplicaID != "r1" || r.RedisTTL != 10*time.Minute || r.MaxAgents != 7 || r.KeyPrefix != "mine" || r.Policy.MinimumCalls != 3 || r.Origins["minimum_calls"] != "program" || r.RedisTimeout != 250*time.Millisecond {
		t.Errorf("%+v", r)
	}
	// What is valid together is not judged apart; the program's own URL stands beside REDIS_URL and its twin.
	if _, err := config.LoadReplica([]string{"CIRCUIT_BREAKER_TIMEOUT_SECONDS=7200", "REDIS_URL=x", "REDIS_URL_FILE=/nowhere"}, config.Own{Policy: breaker.Policy{TimeoutMax: 3 * time.Hour}}); err != nil {
		t.Error(err)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "CIRCUIT_BREAKER_FAILURE_TRESHOLD") {
		t.Errorf("warnings %q", r.Warnings)
	}
	for _, bad := range []string{"REDIS_TIMEOUT_MS=0", "REPLICA_ID=a b", "CIRCUIT_BREAKER_TIMEOUT_SECONDS=x", "AGENTS_FILE=a", "REDIS_PASSWORD_FILE=/nowhere"} {
		if _, err := config.LoadReplica([]string{bad}, config.Own{}); (err == nil) != (bad == "AGENTS_FILE=a") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	_, err = config.LoadReplica(nil, config.Own{ReplicaID: "a b"})
	if bad, is := errors.AsType[*config.Error](err); !is || bad.Name != "REPLICA_ID" || !strings.Contains(bad.Error(), "(in the program's own settings)") {
		t.Errorf("%v", err)
	}
}

func TestCheckBridge_NamesTheBadEntryOfAgentAllow(t *testing.T) {
	t.Parallel()
	for list, bad := range map[string]string{"a.example,10.0.0.0/33": "10.0.0.0/33", "host:80": "host:80", "*,b.example": "*"} {
		c, err := config.Load([]string{"AGENT_ALLOW=" + list})
		if err != nil {
			t.Fatal(err)
		}
		got, ok := errors.AsType[*config.Error](c.CheckBridge())
		if !ok || got.Name != "AGENT_ALLOW" || got.Value != bad {
			t.Errorf("%q: got %v", list, c.CheckBridge())
		}
	}
	c, err := config.Load([]string{"AGENT_ALLOW=a.example, *.b.example, 10.0.0.0/8, ::1"})
	if err != nil || c.CheckBridge() != nil {
		t.Errorf("got %v, %v", err, c.CheckBridge())
	}
}
