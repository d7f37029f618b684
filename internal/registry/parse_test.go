package registry_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// load makes a registry of a file agents.json.
func load(t testing.TB, text string) (*registry.Registry, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return registry.New(registry.Options{Path: path, Default: breaker.DefaultPolicy()})
}

func TestFile_ListsItsAgents(t *testing.T) {
	t.Parallel()
	const text = `[
  {"name": "CriticalAgent", "url": "http://critical-service:8080", "circuit_breaker_config": {
    "enabled": true, "failure_threshold": 3, "failure_rate_threshold": 0.7, "timeout_seconds": 30, "half_open_max_calls": 2, "window_size_seconds": 60}},
  {"name": "AgentName", "circuit_breaker_config": {"enabled": false}},
  {"name": "full", "url": "https://[::1]:9/base/", "contact": "ops@example.org", "labels": {"priority": "low"}, "timeout_seconds": 0.25,
   "classify": "mcp", "origin": "api", "circuit_breaker_config": null}
]`
	for _, wrapped := range []string{text, "\ufeff \n" + text + "\n", `{"agents": ` + text + `}`} {
		r, err := load(t, wrapped)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.List(t.Context())
		if err != nil || len(got) != 3 {
			t.Fatalf("%d agents, %v", len(got), err)
		}
		off, critical, full := got[0], got[1], got[2]
		if off.URL != nil || off.Config.Value("enabled") != false || off.Timeout != registry.DefaultTimeout || off.Classify != breakerhttp.StatusOnly || off.Origin != registry.FromFile {
			t.Errorf("got %+v", off)
		}
		if critical.URL.String() != "http://critical-service:8080" || critical.Config.Value("failure_threshold") != 3 || critical.Config.Value("timeout_seconds") != 30.0 {
			t.Errorf("got %+v", critical)
		}
		u, _ := url.Parse("https://[::1]:9/base/")
		want := registry.Agent{
			Name: "full", URL: u, Config: &policy.Override{}, Contact: "ops@example.org", Labels: map[string]string{"priority": "low"},
			Timeout: 250 * time.Millisecond, Classify: breakerhttp.MCP, IdleTimeout: registry.DefaultIdleTimeout, Origin: registry.FromFile,
		}
		if !reflect.DeepEqual(full, want) {
			t.Errorf("got %+v, want %+v", full, want)
		}
		if r.Override("full") != nil || r.Override("nobody") != nil || r.Override("AgentName").Value("enabled") != false {
			t.Error("a layer for an agent that has none, or none for one that has")
		}
		if s := r.Status(); s.Agents != 3 || s.Problem != nil || s.LoadedAt.IsZero() || s.Path == "" {
			t.Errorf("got %+v", s)
		}
	}
}

// The deployment guide shows one agent, which people paste as it is.
func TestFile_OneAgentIsARegistry(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"name": "CriticalAgent", "url": "http://critical-service:8080", "circuit_breaker_config": {
  "enabled": true, "failure_threshold": 3, "failure_rate_threshold": 0.7, "timeout_seconds": 30, "half_open_max_calls": 2, "window_size_seconds": 60}}`: "CriticalAgent",
		"\ufeff\n{\"circuit_breaker_config\": {\"enabled\": false}, \"name\": \"AgentName\"}\n": "AgentName",
		`{"name": "b"}`: "b",
		`{"url": "http://h", "labels": {"agents": "x"}, "name": "c"}`: "c",
	} {
		r, err := load(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		one, err := r.List(t.Context())
		array, err2 := registry.ParseFile("[" + strings.TrimPrefix(text, "\ufeff") + "]")
		if err != nil || err2 != nil || len(one) != 1 || one[0].Name != want || !reflect.DeepEqual(one, array) {
			t.Errorf("%s: got %+v, %v; in an array %+v, %v", text, one, err, array, err2)
		}
	}
}

func TestFile_NoneIsNoAgents(t *testing.T) {
	t.Parallel()
	r, err := registry.New(registry.Options{Default: breaker.DefaultPolicy()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Agent(t.Context(), "a"); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if s := r.Status(); s.Agents != 0 || s.Problem != nil || s.Path != "" {
		t.Errorf("got %+v", s)
	}
}

const (
	wantURL    = `want an absolute http or https URL with a host, such as http://host:8080`
	wantFields = `want one of name, url, circuit_breaker_config, contact, labels, timeout_seconds, classify, ` +
		`classify_observe, failure_statuses, ignored_statuses, first_token_timeout_seconds, idle_timeout_seconds, count`
	wantFile       = `want an array of agents, {"agents": […]}, or one agent, {"name": …, "url": …}`
	wantName       = `want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit`
	wantClassifier = `want one of "status", "jsonrpc", "mcp", "mcp_strict", "llm", "grpc", "auto"`
	wantSeconds    = `want seconds from 0.001 to 3600, to 0.001`
	wantStatus     = `want a status from 100 to 999, as 401, or a range, as "500-599"`
	wantCount      = `want an object, {"methods": ["POST"], "path_prefixes": ["/v1/"]}, with one of them at least`
	wantMethod     = `want a method in upper case, as POST; OPTIONS and HEAD never count`
	wantPrefix     = `want how a path begins, from its / on, decoded (no %, ? and #), at most 500 bytes of printable text`
	wantTexts      = `want an array of 1 to 32 texts`
	wantLabel      = `want 1 to 64 of A-Z a-z 0-9 . _ : @ -`
)

// agent is a file with one agent: its name in line 1, the rest in line 2.
func agent(rest string) string { return "[{\"name\": \"a\",\n " + rest + "}]" }

func config(rest string) string { return agent(`"circuit_breaker_config": {` + rest + `}`) }

func badFiles() map[string]string { //nolint:maintidx // a table
	return map[string]string{
		// no JSON
		``:                         `1:1: unexpected end of JSON input`,
		" \n\n":                    `1:1: unexpected end of JSON input`,
		`[{"name": "a"}`:           `1:15: unexpected end of JSON input`,
		"[{\"name\": \"a\"},\n ]":  `2:2: invalid character ']' after a comma`,
		"[\n {\"näme\": \"é\", }]": `2:16: invalid character '}' after a comma`,
		"[] []":                    `1:4: want nothing after the value`,
		"[\n  # no comment\n]":     `2:3: invalid character '#' at start of value`,
		"[\n \"é\xff\"]":           `2:4: not UTF-8 text`,
		"\xff\xfe[\x00]\x00":       `1:1: the text is UTF-16: save it as UTF-8`,
		strings.Repeat("[", 10001): `1: ` + strings.Repeat("[0]", 32) + `: nested deeper than 32 levels`,
		// no agents
		`null`:                              `1: ` + wantFile,
		"\n5":                               `2: ` + wantFile,
		`{}`:                                `1: ` + wantFile,
		`{"agents": {}}`:                    `1: ` + wantFile,
		"{\n\"url\": \"http://h\"}":         `2: url: unknown field: ` + wantFile,
		"{\n\"Name\": \"a\"}":               `2: Name: unknown field: ` + wantFile,
		"{\"name\": \"a\", \"agents\": []}": `1: name: unknown field: ` + wantFile,
		// one agent
		"{\n\"name\": \"a b\"}":                                `2: name: "a b" is not allowed: ` + wantName,
		"{\"name\": \"a\",\n\"name\": \"a\"}":                  `2: name: given twice: want each field once`,
		"{\"name\": \"a\",\n\"Url\": \"http://h\"}":            `2: Url: unknown field: ` + wantFields,
		"{\"name\": \"a\",\n\"timeout_seconds\": 0}":           `2: timeout_seconds: 0 is not allowed: want seconds from 0.001 to 3600, to 0.001`,
		`{"name": "a", "circuit_breaker_config": {"nope": 1}}`: `1: circuit_breaker_config.nope: an unknown field is not allowed: want one of ` + policyFields(),
		"{\"agents\": [],\n\"agents\": []}":                    `2: agents: given twice: want each field once`,
		`["a"]`:                                                `1: agents[0]: "a" is not allowed: want an agent, {"name": …, "url": …}`,
		`[{}]`:                                                 `1: agents[0].name: missing: want a name`,
		// names
		"[\n{\n\"name\": \"a b\"}]": `3: agents[0].name: "a b" is not allowed: ` + wantName,
		`[{"name": ""}]`:            `1: agents[0].name: "" is not allowed: ` + wantName,
		`[{"name": null}]`:          `1: agents[0].name: null is not allowed: ` + wantName,
		`[{"name": 7}]`:             `1: agents[0].name: 7 is not allowed: ` + wantName,
		`[{"name": ["a"]}]`:         `1: agents[0].name: an array is not allowed: ` + wantName,
		"[{\"name\": \"a\"},\n{\"name\": \"b\"}, {\n\"name\": \"a\"}]": `3: agents[2].name: "a" is registered already, in line 1`,
		// fields
		agent(`"Url": "http://h"`):                             `2: agents[0].Url: unknown field: ` + wantFields,
		agent(`"": 1`):                                         `2: agents[0][""]: unknown field: ` + wantFields,
		agent(`"\u001b[2J": 1`):                                `2: agents[0]["\x1b[2J"]: unknown field: ` + wantFields,
		agent(`"contact": "x", "\u0063ontact": "y"`):           `2: agents[0].contact: given twice: want each field once`,
		agent(`"contact": false`):                              `2: agents[0].contact: false is not allowed: want at most 500 bytes of printable text`,
		agent(`"contact": "a\nb"`):                             `2: agents[0].contact: "a\nb" is not allowed: want at most 500 bytes of printable text`,
		agent(`"contact": "` + strings.Repeat("x", 501) + `"`): `2: agents[0].contact: "` + strings.Repeat("x", 64) + `…" is not allowed: want at most 500 bytes of printable text`,
		agent(`"classify": "body"`):                            `2: agents[0].classify: "body" is not allowed: ` + wantClassifier,
		agent(`"origin": "me"`):                                `2: agents[0].origin: "me" is not allowed: want "file" or "api"`,
		agent(`"timeout_seconds": 0`):                          `2: agents[0].timeout_seconds: 0 is not allowed: want seconds from 0.001 to 3600, to 0.001`,
		agent(`"timeout_seconds": 3600.001`):                   `2: agents[0].timeout_seconds: 3600.001 is not allowed: want seconds from 0.001 to 3600, to 0.001`,
		agent(`"timeout_seconds": 0.0015`):                     `2: agents[0].timeout_seconds: 0.0015 is not allowed: want seconds from 0.001 to 3600, to 0.001`,
		agent(`"timeout_seconds": 1e400`):                      `2: agents[0].timeout_seconds: 1e400 is not allowed: want seconds from 0.001 to 3600, to 0.001`,
		agent(`"timeout_seconds": "60"`):                       `2: agents[0].timeout_seconds: "60" is not allowed: want seconds from 0.001 to 3600, to 0.001`,
		agent(`"classify": "MCP"`):                             `2: agents[0].classify: "MCP" is not allowed: ` + wantClassifier,
		agent(`"classify": ""`):                                `2: agents[0].classify: "" is not allowed: ` + wantClassifier,
		agent(`"classify_observe": null`):                      `2: agents[0].classify_observe: null is not allowed: ` + wantClassifier,
		agent(`"classify_observe": ["llm"]`):                   `2: agents[0].classify_observe: an array is not allowed: ` + wantClassifier,
		agent(`"first_token_timeout_seconds": 0`):              `2: agents[0].first_token_timeout_seconds: 0 is not allowed: ` + wantSeconds,
		agent(`"first_token_timeout_seconds": null`):           `2: agents[0].first_token_timeout_seconds: null is not allowed: ` + wantSeconds,
		agent(`"idle_timeout_seconds": 3601`):                  `2: agents[0].idle_timeout_seconds: 3601 is not allowed: ` + wantSeconds,
		agent(`"idle_timeout_seconds": -1`):                    `2: agents[0].idle_timeout_seconds: -1 is not allowed: ` + wantSeconds,
		// statuses
		agent(`"failure_statuses": 401`):                                         `2: agents[0].failure_statuses: 401 is not allowed: want an array of statuses, as [401, "500-599"]`,
		agent(`"ignored_statuses": null`):                                        `2: agents[0].ignored_statuses: null is not allowed: want an array of statuses, as [401, "500-599"]`,
		agent("\"failure_statuses\": [401,\n\"401\"]"):                           `3: agents[0].failure_statuses[1]: "401" is not allowed: ` + wantStatus,
		agent(`"failure_statuses": [99]`):                                        `2: agents[0].failure_statuses[0]: 99 is not allowed: ` + wantStatus,
		agent(`"failure_statuses": [1000]`):                                      `2: agents[0].failure_statuses[0]: 1000 is not allowed: ` + wantStatus,
		agent(`"failure_statuses": [404.5]`):                                     `2: agents[0].failure_statuses[0]: 404.5 is not allowed: ` + wantStatus,
		agent(`"failure_statuses": [4e2]`):                                       `2: agents[0].failure_statuses[0]: 4e2 is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["4xx"]`):                                     `2: agents[0].ignored_statuses[0]: "4xx" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["599-500"]`):                                 `2: agents[0].ignored_statuses[0]: "599-500" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["500 - 599"]`):                               `2: agents[0].ignored_statuses[0]: "500 - 599" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["500-"]`):                                    `2: agents[0].ignored_statuses[0]: "500-" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["-500"]`):                                    `2: agents[0].ignored_statuses[0]: "-500" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["500-501-502"]`):                             `2: agents[0].ignored_statuses[0]: "500-501-502" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": ["+50-599"]`):                                 `2: agents[0].ignored_statuses[0]: "+50-599" is not allowed: ` + wantStatus,
		agent(`"ignored_statuses": [{"from": 500}]`):                             `2: agents[0].ignored_statuses[0]: an object is not allowed: ` + wantStatus,
		agent(`"failure_statuses": [` + many("400", 33) + `]`):                   `2: agents[0].failure_statuses: want at most 32 statuses and ranges`,
		agent(`"failure_statuses": ["400-499"], "ignored_statuses": [200, 404]`): `2: agents[0].ignored_statuses[1]: 404 is in failure_statuses too: want each status in one of them`,
		agent(`"ignored_statuses": [501], "failure_statuses": ["500-599"]`):      `2: agents[0].failure_statuses[0]: "500-599" is in ignored_statuses too: want each status in one of them`,
		// what counts
		agent(`"count": null`):                                     `2: agents[0].count: null is not allowed: ` + wantCount,
		agent(`"count": ["POST"]`):                                 `2: agents[0].count: an array is not allowed: ` + wantCount,
		agent(`"count": {}`):                                       `2: agents[0].count: empty: ` + wantCount,
		agent(`"count": {"method": ["POST"]}`):                     `2: agents[0].count.method: unknown field: want one of methods, path_prefixes`,
		agent(`"count": {"methods": []}`):                          `2: agents[0].count.methods: ` + wantTexts,
		agent(`"count": {"methods": "POST"}`):                      `2: agents[0].count.methods: ` + wantTexts,
		agent(`"count": {"methods": {"POST": "POST"}}`):            `2: agents[0].count.methods: ` + wantTexts,
		agent(`"count": {"methods": [` + many(`"GET"`, 33) + `]}`): `2: agents[0].count.methods: ` + wantTexts,
		agent(`"count": {"methods": ["post"]}`):                    `2: agents[0].count.methods[0]: "post" is not allowed: ` + wantMethod,
		agent(`"count": {"methods": ["POST", "HEAD"]}`):            `2: agents[0].count.methods[1]: "HEAD" is not allowed: ` + wantMethod,
		agent(`"count": {"methods": ["OPTIONS"]}`):                 `2: agents[0].count.methods[0]: "OPTIONS" is not allowed: ` + wantMethod,
		agent(`"count": {"methods": ["A B"]}`):                     `2: agents[0].count.methods[0]: "A B" is not allowed: ` + wantMethod,
		agent(`"count": {"methods": [""]}`):                        `2: agents[0].count.methods[0]: "" is not allowed: ` + wantMethod,
		agent(`"count": {"methods": [null]}`):                      `2: agents[0].count.methods[0]: null is not allowed: ` + wantMethod,
		agent(`"count": {"path_prefixes": ["v1/"]}`):               `2: agents[0].count.path_prefixes[0]: "v1/" is not allowed: ` + wantPrefix,
		agent(`"count": {"path_prefixes": [""]}`):                  `2: agents[0].count.path_prefixes[0]: "" is not allowed: ` + wantPrefix,
		agent(`"count": {"path_prefixes": ["/a%20b"]}`):            `2: agents[0].count.path_prefixes[0]: "/a%20b" is not allowed: ` + wantPrefix,
		agent(`"count": {"path_prefixes": ["/a?b"]}`):              `2: agents[0].count.path_prefixes[0]: "/a?b" is not allowed: ` + wantPrefix,
		agent(`"count": {"path_prefixes": ["/a\u202e"]}`):          `2: agents[0].count.path_prefixes[0]: "/a\u202e" is not allowed: ` + wantPrefix,
		// labels
		agent(`"labels": []`):                       `2: agents[0].labels: an array is not allowed: want an object, {"name": "value", …}`,
		agent("\"labels\": {\n\"a b\": \"c\"}"):     `3: agents[0].labels["a b"]: the name is not allowed: ` + wantLabel,
		agent(`"labels": {"a": 1}`):                 `2: agents[0].labels.a: 1 is not allowed: want at most 256 bytes of printable text`,
		agent(`"labels": {"a": "b", "a": "c"}`):     `2: agents[0].labels.a: given twice: want each field once`,
		agent(`"labels": {` + manyLabels(33) + `}`): `2: agents[0].labels: want at most 32 labels`,
		// addresses
		agent(`"url": ""`):                                           `2: agents[0].url: empty: ` + wantURL + `, or leave the field out for a policy without an address`,
		agent(`"url": 8080`):                                         `2: agents[0].url: 8080 is not allowed: want an http or https URL`,
		agent(`"url": "localhost:8080"`):                             `2: agents[0].url: the scheme "localhost" is not allowed: ` + wantURL,
		agent(`"url": "/a"`):                                         `2: agents[0].url: the scheme "" is not allowed: ` + wantURL,
		agent(`"url": "ftp://h"`):                                    `2: agents[0].url: the scheme "ftp" is not allowed: ` + wantURL,
		agent(`"url": "http://"`):                                    `2: agents[0].url: no host: ` + wantURL,
		agent(`"url": "http:h"`):                                     `2: agents[0].url: no host: ` + wantURL,
		agent(`"url": "http://:80"`):                                 `2: agents[0].url: no host: ` + wantURL,
		agent(`"url": "http://h:99999"`):                             `2: agents[0].url: the port 99999 is not allowed: want 1 to 65535`,
		agent(`"url": "http://h:port"`):                              `2: agents[0].url: no URL: ` + wantURL,
		agent(`"url": "http://u:geheim@h"`):                          `2: agents[0].url: a user or password is not allowed: secrets do not belong into a URL, which is shown and logged`,
		agent(`"url": "http://u:gehe/im@h"`):                         `2: agents[0].url: a user or password is not allowed: secrets do not belong into a URL, which is shown and logged`,
		agent(`"url": "http://h/?key=geheim"`):                       `2: agents[0].url: a query or fragment is not allowed: each call brings its own path and query, which are put after this URL's path`,
		agent(`"url": "http://h/#"`):                                 `2: agents[0].url: a query or fragment is not allowed: each call brings its own path and query, which are put after this URL's path`,
		agent(`"url": "http://h/` + strings.Repeat("x", 2000) + `"`): `2: agents[0].url: too long, or not printable: want at most 2000 bytes of printable text`,
		// policies
		agent(`"circuit_breaker_config": true`):                 `2: agents[0].circuit_breaker_config: true is not allowed: want an object, {"failure_threshold": 3, …}, or null`,
		config("\n\"failure_threshold\": 0.5"):                  `3: agents[0].circuit_breaker_config.failure_threshold: 0.5 is not allowed: want a whole number from 0 to 255`,
		config(`"enabled": "false"`):                            `2: agents[0].circuit_breaker_config.enabled: "false" is not allowed: want true or false`,
		config("\"mode\": \"observe\",\n\"mode\": \"observe\""): `3: agents[0].circuit_breaker_config.mode: given twice: want each field once`,
		config(`"Enabled": true`):                               `2: agents[0].circuit_breaker_config.Enabled: an unknown field is not allowed: want one of ` + policyFields(),
		config(`"": true`):                                      `2: agents[0].circuit_breaker_config[""]: an unknown field is not allowed: want one of ` + policyFields(),
		config(`"consistency": null`):                           `2: agents[0].circuit_breaker_config.consistency: null is not allowed: want one of ["strict" "cached"]`,
		config(`"mode": "` + strings.Repeat("x", 17<<10) + `"`): `2: agents[0].circuit_breaker_config.mode: "` + strings.Repeat("x", 64) + `…" is not allowed: want one of ["enforce" "observe"]`,
		config(`"timeout_seconds": 7200`): `2: agents[0].circuit_breaker_config: policy (timeout_seconds from registry, timeout_max_seconds from default): ` +
			`timeout_seconds: 7200 is not allowed: want at most timeout_max_seconds (3600)`,
	}
}

func policyFields() string {
	var names []string
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func many(item string, n int) string { return strings.TrimSuffix(strings.Repeat(item+", ", n), ", ") }

func manyLabels(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`"label%d": "x"`, i)
	}
	return strings.Join(out, ", ")
}

func TestFaults_SayWhatAndWhere(t *testing.T) {
	t.Parallel()
	for text, want := range badFiles() {
		_, err := load(t, text)
		if err == nil {
			t.Errorf("%.200q was taken", text)
			continue
		}
		_, got, _ := strings.Cut(err.Error(), "agents.json:")
		if got != want {
			t.Errorf("%.200q\n got %s\nwant %s", text, got, want)
		}
		if _, is := errors.AsType[*registry.Faults](err); !is {
			t.Errorf("%.200q: %T is no Faults", text, err)
		}
	}
}

func TestFaults_AreAllReported(t *testing.T) {
	t.Parallel()
	_, err := load(t, `[
  {"url": "x", "circuit_breaker_config": {"enabled": 1,
    "mode": "x"}, "colour": "red"},
  {"name": "b", "classify": null},
  {"name": "b"}
]`)
	faults, is := errors.AsType[*registry.Faults](err)
	if !is {
		t.Fatal(err)
	}
	var got []string
	for _, f := range faults.Faults {
		got = append(got, fmt.Sprint(f.Line, " ", f.Path))
	}
	want := []string{
		"2 agents[0].name", "2 agents[0].url", "2 agents[0].circuit_breaker_config.enabled", "3 agents[0].circuit_breaker_config.mode",
		"3 agents[0].colour", "4 agents[1].classify", "5 agents[2].name",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := strings.Count(err.Error(), "agents.json:"); n != len(want) {
		t.Errorf("%d lines of %d faults: %v", n, len(want), err)
	}
}

func TestFaults_AreBounded(t *testing.T) {
	t.Parallel()
	_, err := load(t, `[`+strings.Repeat("{},\n", 100_000)+`{}]`)
	if bad, is := errors.AsType[*registry.Faults](err); !is || len(bad.Faults) != 20 || bad.Faults[19].Line != 20 || bad.More != 99_981 {
		t.Errorf("got %v", err)
	}
}

func TestFaults_ShowNoSecretsOrControls(t *testing.T) {
	t.Parallel()
	for text := range badFiles() {
		if _, err := load(t, text); strings.Contains(err.Error(), "gehe") || strings.ContainsAny(err.Error(), "\x1b\x00") || len(err.Error()) > 1000 {
			t.Errorf("%.100q: %v", text, err)
		}
	}
}

func TestFile_AgentsAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(path, []byte("[{\"name\": \"a\"}, {\"name\": \"b\"},\n{\"name\": \"c\"}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := registry.New(registry.Options{Path: path, Default: breaker.DefaultPolicy(), MaxAgents: 2})
	if err == nil || !strings.HasSuffix(err.Error(), "agents.json:2: agents[2]: want at most 2 agents") {
		t.Errorf("got %v", err)
	}
}

func TestParseAgent_IsAsStrictAsTheFile(t *testing.T) {
	t.Parallel()
	def := breaker.DefaultPolicy()
	def.TimeoutMax = 10 * time.Minute
	parse := func(name, text string) (registry.Agent, error) {
		return registry.ParseAgent(name, []byte(text), def, map[string]string{"timeout_max_seconds": "environment"})
	}
	a, err := parse("a", `{"url": "http://h", "circuit_breaker_config": {}}`)
	if err != nil || a.Name != "a" || a.Origin != registry.FromAPI || a.Config == nil || a.Timeout != registry.DefaultTimeout {
		t.Errorf("got %+v, %v", a, err)
	}
	if a, err = parse("", `{"name": "b"}`); err != nil || a.Name != "b" || a.Config != nil {
		t.Errorf("got %+v, %v", a, err)
	}
	bad := []struct{ name, text, want string }{
		{"", `{}`, `name: missing: want a name`},
		{"", ``, `line 1:1: unexpected end of JSON input`},
		{"", `[]`, `an array is not allowed: want an agent, {"name": …, "url": …}`},
		{"a", "{\n\"name\": \"b\"}", `name: "b" is not allowed: want "a", as in the address`},
		{"a", `{"circuit_breaker_config": {"timeout_seconds": 601}}`, `circuit_breaker_config: policy (timeout_seconds from registry, ` +
			`timeout_max_seconds from environment): timeout_seconds: 601 is not allowed: want at most timeout_max_seconds (600)`},
		{"a", `{"url": "h", "x": 1}`, "url: the scheme \"\" is not allowed: " + wantURL + "\nx: unknown field: " + wantFields},
	}
	for _, tt := range bad {
		if a, err := parse(tt.name, tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %+v, %v, want %s", tt.text, a, err, tt.want)
		}
	}
}

func TestFile_MayHoldWhatTheAPIAdds(t *testing.T) {
	t.Parallel()
	if _, err := load(t, `[{"name": "a", "origin": "api", "breaker": {"state": "OPEN", "anything": [{}]}}]`); err != nil {
		t.Error(err)
	}
	if _, err := load(t, `[{"name": "a", "breaker": "OPEN"}]`); err == nil {
		t.Error("a breaker that is a text was taken")
	}
}

// Not parallel, for it measures allocations of the whole process.
func TestFaults_TakeLittleMemory(t *testing.T) { //nolint:paralleltest // see above
	config := strings.Repeat(`"x":0,`, 2000) + strings.Repeat(`"failure_threshold":[],`, 300) + `"mode":0`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := registry.ParseFile(`[` + strings.Repeat(`{"name":"a","circuit_breaker_config":{`+config+`}},`, 50) + `{}]`)
	runtime.ReadMemStats(&after)
	if bad, is := errors.AsType[*registry.Faults](err); !is || len(bad.Faults) != 20 || bad.More < 50*2300 {
		t.Errorf("got %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d bytes are allocated", n)
	}
}
