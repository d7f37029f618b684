package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestWarnings_NameTheNearestVariable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ unknown, nearest string }{
		{"CIRCUIT_BREAKER_TIMEOUT", "CIRCUIT_BREAKER_TIMEOUT_SECONDS"},
		{"CIRCUIT_BREAKER_FAILURE_TRESHOLD", "CIRCUIT_BREAKER_FAILURE_THRESHOLD"},
		{"CIRCUIT_BREAKER_WINDOW_SIZE", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS"},
		{"CIRCUIT_BREAKER_HALF_OPEN_CALLS", "CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS"},
		{"CIRCUIT_BREAKER_ENABLE", "CIRCUIT_BREAKER_ENABLED"},
		{"CIRCUITBREAKER_ENABLED", "CIRCUIT_BREAKER_ENABLED"},
		{"circuit_breaker_enabled", "CIRCUIT_BREAKER_ENABLED"},
		{"STEMEDB_CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD", "CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD"},
		{"STEMEDB_CIRCUIT_BREAKER_TIMEOUT", "CIRCUIT_BREAKER_TIMEOUT_SECONDS"},
		{"REDIS_URI", "REDIS_URL"},
		{"REDIS_HOST", "REDIS_URL"},
		{"REDIS_PORT", "REDIS_URL"},
		{"REDIS_PASS", "REDIS_PASSWORD"},
		{"REDIS_URL_FIEL", "REDIS_URL_FILE"},
		{"REDIS_TIMEOUT", "REDIS_TIMEOUT_MS"},
		{"BREAKERD_ADDR", "BREAKERD_LISTEN"},
		{"BRIDGE_HOST", "BRIDGE_LISTEN"},
		{"BRIDGE_LISTENER", "BRIDGE_LISTEN"},
		{"INBOUND_TARGET_URL", "INBOUND_URL"},
		{"SHUTDOWN_TIMEOUT", "SHUTDOWN_TIMEOUT_SECONDS"},
		{"LOGLEVEL", "LOG_LEVEL"},
		{"LOG_FMT", "LOG_FORMAT"},
		{"METRICS_MAX_AGENT", "METRICS_MAX_AGENTS"},
		{"WORKFLOW_DIR", "WORKFLOWS_DIR"},
		{"AGENT_FILE", "AGENTS_FILE"},
	} {
		c := load(t, tt.unknown+"=hunter2")
		if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], tt.unknown+" ") || !strings.HasSuffix(c.Warnings[0], " "+tt.nearest) ||
			strings.Contains(c.Warnings[0], "hunter2") {
			t.Errorf("%s: got %q, want %s", tt.unknown, c.Warnings, tt.nearest)
		}
	}
}

func TestWarnings_NamesOfOthersGiveNone(t *testing.T) {
	t.Parallel()
	environ := strings.Fields(`
		PATH=/bin HOME=/root USER=u LOGNAME=u SHELL=/bin/sh PWD=/ OLDPWD=/ TERM=xterm LANG=C LC_ALL=C TZ=UTC EDITOR=vi PAGER=less HOSTNAME=h
		HISTFILE=/h HISTSIZE=1 HISTCONTROL=x LS_COLORS=x SHLVL=1 TMPDIR=/tmp DISPLAY=:0 MAIL=/m SSH_AUTH_SOCK=/s SSH_CONNECTION=x XDG_RUNTIME_DIR=/r
		HTTP_PROXY=http://p https_proxy=http://p NO_PROXY=x no_proxy=x NO_COLOR=1 DEBUG=1 PORT=80 HOST=h URL=u ENV=prod ENVIRONMENT=prod VERSION=1
		GOPATH=/go GOFLAGS=-v GOMEMLIMIT=1 GOMAXPROCS=2 GOGC=50 GORACE=x GODEBUG=x SSL_CERT_FILE=/c JAVA_HOME=/j PYTHONPATH=/p NODE_ENV=prod
		DOCKER_HOST=unix:///d COMPOSE_FILE=c COMPOSE_PROJECT_NAME=p container=docker NOTIFY_SOCKET=/n INVOCATION_ID=1 JOURNAL_STREAM=1 LISTEN_FDS=1 LISTEN_PID=2
		KUBERNETES_SERVICE_HOST=10.0.0.1 KUBERNETES_SERVICE_PORT=443 KUBERNETES_SERVICE_PORT_HTTPS=443 KUBERNETES_PORT=tcp://10.0.0.1:443
		KUBERNETES_PORT_443_TCP=tcp://10.0.0.1:443 KUBERNETES_PORT_443_TCP_PROTO=tcp KUBERNETES_PORT_443_TCP_PORT=443 KUBERNETES_PORT_443_TCP_ADDR=10.0.0.1
		POD_NAME=p POD_NAMESPACE=n POD_IP=10.0.0.2 NODE_NAME=n
		REDIS_SERVICE_HOST=10.0.0.3 REDIS_SERVICE_PORT=6379 REDIS_SERVICE_PORT_REDIS=6379 REDIS_PORT=tcp://10.0.0.3:6379 REDIS_PORT_6379_TCP=tcp://10.0.0.3:6379
		REDIS_PORT_6379_TCP_PROTO=tcp REDIS_PORT_6379_TCP_PORT=6379 REDIS_PORT_6379_TCP_ADDR=10.0.0.3 REDIS_MASTER_SERVICE_HOST=10.0.0.4
		REDIS_NAME=/bridge/redis REDIS_ENV_REDIS_VERSION=7.2 REDIS_VERSION=7.2 REDIS_DOWNLOAD_URL=http://d REDIS_DOWNLOAD_SHA=1 REDISCLI_AUTH=x
		BRIDGE_SERVICE_HOST=10.0.0.5 BRIDGE_SERVICE_PORT_HTTP=8000 BRIDGE_PORT=tcp://10.0.0.5:8000 BRIDGE_PORT_8000_TCP_ADDR=10.0.0.5
		BREAKERD_SERVICE_HOST=10.0.0.6 BREAKERD_PORT=tcp://10.0.0.6:18180 BREAKERD_PORT_18180_TCP=tcp://10.0.0.6:18180
		LOG_DIR=/l LOG_FILE=/l LOG_PATH=/l STEMEDB_HOME=/s
		CI=true CI_JOB_ID=1 GITHUB_ACTIONS=true GITHUB_WORKFLOW=x GITHUB_ENV=/e RUNNER_OS=Linux RUNNER_DEBUG=1 GITLAB_CI=1 BUILD_NUMBER=1 JENKINS_URL=http://j
		CIRCLE_WORKFLOW_ID=1 TRAVIS=1 BUILDKITE=1 TF_BUILD=True AWS_REGION=r AWS_EXECUTION_ENV=x DEMO_LISTEN=127.0.0.1:9000 DEMO_AGENTS=A=slow`)
	// The compose files read these from the same .env that the programs read.
	files, err := filepath.Glob("../../docker-compose*.yml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(string(text), -1) {
			environ = append(environ, m[1]+"=1")
		}
	}
	if c := load(t, environ...); len(c.Warnings) > 0 {
		t.Errorf("%q", c.Warnings)
	}
}

func TestWarnings_SettingsThatUndoEachOther(t *testing.T) {
	t.Parallel()
	const off = "CIRCUIT_BREAKER_FAILURE_THRESHOLD=0 CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD=0 "
	for environ, want := range map[string][]string{
		"REDIS_TTL_SECONDS=60":                   {"REDIS_TTL_SECONDS", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS"},
		"CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=500":  {"CIRCUIT_BREAKER_MAX_STALENESS_MS", "CIRCUIT_BREAKER_FLUSH_INTERVAL_MS"},
		off:                                      {"CIRCUIT_BREAKER_FAILURE_THRESHOLD", "CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD", "no breaker ever opens"},
		off + "CIRCUIT_BREAKER_RETRY_AFTER=open": nil,
		off + "CIRCUIT_BREAKER_SLOW_CALL_DURATION_SECONDS=1 CIRCUIT_BREAKER_SLOW_CALL_RATE_THRESHOLD=0.5": nil,
		"CIRCUIT_BREAKER_FAILURE_THRESHOLD=0":           nil,
		"CIRCUIT_BREAKER_SLOW_CALL_RATE_THRESHOLD=0.5":  {"CIRCUIT_BREAKER_SLOW_CALL_DURATION_SECONDS", "CIRCUIT_BREAKER_SLOW_CALL_RATE_THRESHOLD"},
		"CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD=4": {"CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD (4)", "CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS (3)"},
		"CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD=3": nil,
	} {
		c := load(t, strings.Fields(environ)...)
		if len(c.Warnings) != min(len(want), 1) {
			t.Errorf("%s: got %q", environ, c.Warnings)
			continue
		}
		for _, field := range want {
			if !strings.Contains(c.Warnings[0], field) {
				t.Errorf("%s: got %q, want %s in it", environ, c.Warnings[0], field)
			}
		}
	}
}
