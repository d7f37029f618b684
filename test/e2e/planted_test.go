package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// planted is one agent with planted keys [B20].
type planted struct {
	agent string
	cli   [][]string // redis-cli commands; @ stands for circuit_breaker:<agent>:
	state string     // that the first call must find
	heals bool       // the machine's own keys: counted and logged
	types string     // "state string calls hash": keys and their types after the repair
}

func plants() []planted {
	set := func(args ...string) []string { return args }
	million := `for i = 1, 1000000 do redis.call('HSET', KEYS[1], 's' .. i, '1') end`
	return []planted{
		{"ListState", [][]string{set("RPUSH", "@state", "open")}, "CLOSED", true, "state string"},
		{"WordState", [][]string{set("SET", "@state", "ajar")}, "CLOSED", true, "state string"},
		{"GarbageTime", [][]string{set("SET", "@state", "open"), set("SET", "@open_timestamp", "yesterday")}, "OPEN", true, "open_timestamp string"},
		{"NaNTime", [][]string{set("SET", "@state", "open"), set("SET", "@open_timestamp", "nan")}, "OPEN", true, "open_timestamp string"},
		{"HashTime", [][]string{set("SET", "@state", "open"), set("HSET", "@open_timestamp", "a", "b")}, "OPEN", true, "open_timestamp string"},
		{"MillionCalls", [][]string{set("SET", "@state", "closed"), set("EVAL", million, "1", "@calls")}, "CLOSED", true, "calls hash"},
		{"TextControl", [][]string{set("SET", "@state", "open"), set("SET", "@control", "x")}, "OPEN", true, "control hash"},
		{"BadControl", [][]string{set("SET", "@state", "closed"), set("HSET", "@control", "state", "closed", "run", "NaN", "epoch", "x")}, "CLOSED", true, "control hash"},
		{"TextProbes", [][]string{set("SET", "@state", "half_open"), set("SET", "@probes", "x")}, "HALF_OPEN", true, "probes hash"},
		{"TextLog", [][]string{set("SET", "@log", "x")}, "CLOSED", false, "state string"},
		{"TextQuarantine", [][]string{set("SET", "@quarantine", "x")}, "CLOSED", false, "quarantine list"},
		{"GarbageConfig", [][]string{set("SET", "@config", "{failure_threshold: high")}, "CLOSED", false, "state string"},
		{"BadConfig", [][]string{set("SET", "@config", `{"failure_threshold":-1}`)}, "CLOSED", false, "state string"},
		{"ListConfig", [][]string{set("RPUSH", "@config", "x")}, "CLOSED", false, "state string"},
		{"GarbageProfile", [][]string{set("SET", "@profile", "not JSON")}, "CLOSED", false, "state string"},
		{"ListProfile", [][]string{set("RPUSH", "@profile", "x")}, "CLOSED", false, "state string"},
	}
}

// exercise makes every kind of call on a planted agent. Each must be answered as if no key had been planted.
func (p planted) exercise(t *testing.T, d *daemon) {
	t.Helper()
	at := func(r reply, statuses ...int) {
		t.Helper()
		if !slices.Contains(statuses, r.status) {
			t.Errorf("%s: %s: status %d, want %v: %s", p.agent, r.what, r.status, statuses, r.body)
		}
		if r.status < http.StatusBadRequest && r.get("degraded") == true {
			t.Errorf("%s: %s: answered from memory: %s", p.agent, r.what, r.body)
		}
	}
	first := d.acquire(p.agent)
	at(first, http.StatusOK, http.StatusTooManyRequests)
	if got := first.text("state"); got != p.state {
		t.Errorf("%s: found %s, want %s", p.agent, got, p.state)
	}
	at(d.call(http.MethodPost, dataPath+p.agent+"/report", `{"outcome":"failure","error":"test"}`), http.StatusOK)
	at(d.acquire(p.agent), http.StatusOK, http.StatusTooManyRequests)
	at(d.call(http.MethodGet, adminPath+p.agent, ""), http.StatusOK)
	at(d.call(http.MethodGet, adminPath+p.agent+"/events", ""), http.StatusOK)
	at(d.call(http.MethodGet, "/v1/admin/quarantine?agent_id="+p.agent, ""), http.StatusOK)
	at(d.call(http.MethodGet, "/v1/admin/agents/"+p.agent, ""), http.StatusOK)
	at(d.call(http.MethodGet, adminPath+p.agent+"/config", ""), http.StatusNotFound, http.StatusConflict)
	at(d.call(http.MethodPost, adminPath+p.agent+"/reset", `{"target_state":"CLOSED"}`), http.StatusOK)
	at(d.call(http.MethodGet, "/v1/admin/circuit_breakers", ""), http.StatusOK)
}

func TestPlantedKeys_FailNoCall(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	d := start(t, "REDIS_URL="+s.URL())
	for _, p := range plants() {
		prefix := "circuit_breaker:" + p.agent + ":"
		for _, args := range p.cli {
			args = slices.Clone(args)
			for i, arg := range args {
				if rest, ok := strings.CutPrefix(arg, "@"); ok {
					args[i] = prefix + rest
				}
			}
			if out := redisCLI(t, s, args...); strings.Contains(out, "ERR") {
				t.Fatalf("%s: %s", p.agent, out)
			}
		}
		if fields := strings.Fields(p.types); p.heals { // checked before a reset deletes the key
			d.acquire(p.agent)
			if got := redisCLI(t, s, "TYPE", prefix+fields[0]); got != fields[1] && got != "none" {
				t.Errorf("%s: %s is of type %s after a call, want %s", p.agent, fields[0], got, fields[1])
			}
		}
		p.exercise(t, d)
		fields := strings.Fields(p.types)
		testkit.Eventually(t, p.agent+" to be healed", 5*time.Second, func() error {
			if got := redisCLI(t, s, "TYPE", prefix+fields[0]); got != fields[1] && (got != "none" || !p.heals) {
				return fmt.Errorf("%s is of type %s, want %s", fields[0], got, fields[1])
			}
			return nil
		})
	}
	metrics := string(d.call(http.MethodGet, "/metrics", "").want(http.StatusOK).body)
	for _, p := range plants() {
		logged := len(d.allLogged(`"event":"circuit_breaker.healed"`, `"agent":"`+p.agent+`"`))
		counted := strings.Contains(metrics, `circuit_breaker_heals_total{agent="`+p.agent+`"} 1`+"\n")
		if counted != p.heals || (logged == 1) != p.heals {
			t.Errorf("%s: %d log lines of its healing, counted once: %v; want it %v", p.agent, logged, counted, p.heals)
		}
	}
	for _, agent := range []string{"GarbageConfig", "BadConfig"} {
		if n := len(d.allLogged(`"event":"circuit_breaker.bad_override"`, agent)); n != 1 {
			t.Errorf("the bad override of %s is logged %d times, want once", agent, n)
		}
	}
	if lines := d.allLogged(`"event":"circuit_breaker.degraded"`); len(lines) > 0 {
		t.Errorf("planted keys made Redis look away: %s", lines[0])
	}
}

// TestPlantedKeys_BadDocumentsCanBeReplaced: an override or a profile of nonsense is replaced over the API.
func TestPlantedKeys_BadDocumentsCanBeReplaced(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	d := start(t, "REDIS_URL="+s.URL())
	redisCLI(t, s, "SET", "circuit_breaker:Text:config", "not JSON")
	redisCLI(t, s, "RPUSH", "circuit_breaker:List:config", "x")
	redisCLI(t, s, "RPUSH", "circuit_breaker:List:profile", "x")
	etag := d.call(http.MethodGet, adminPath+"Text/config", "").want(http.StatusConflict).has("code", "config_invalid").header.Get("ETag")
	d.call(http.MethodPut, adminPath+"Text/config", `{"failure_threshold":1}`, "If-Match", etag).want(http.StatusOK)
	d.override("List", `{"failure_threshold":1}`)
	d.call(http.MethodPut, "/v1/admin/agents/List", `{"contact":"ops@example.org"}`).want(http.StatusCreated)
	for _, agent := range []string{"Text", "List"} {
		d.run(agent, "failure", 1)
		d.acquire(agent).refused("OPEN", "open")
	}
}

func TestNames_BadOnesLeaveNoTrace(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	d := start(t, "REDIS_URL="+s.URL(), "LOG_LEVEL=debug")
	const mark = "zz9mark"
	names := []string{
		mark + "%20x", mark + "%0Ainjected", "%7B" + mark + "%7D", "*" + mark, mark + "%00", ".." + mark, "-" + mark, mark + "%2Fx", mark + "%22%2C",
		mark + "%1b%5B31m", mark + "%E2%80%A8", strings.Repeat("a", 128) + mark, "%ff" + mark,
	}
	for _, name := range names {
		for _, x := range []exchange{
			{method: http.MethodPost, path: dataPath + name + "/acquire"},
			{method: http.MethodPost, path: dataPath + name + "/report", body: `{"outcome":"failure"}`},
			{method: http.MethodGet, path: adminPath + name},
			{method: http.MethodPost, path: adminPath + name + "/open", body: `{"reason":"x"}`},
			{method: http.MethodPut, path: adminPath + name + "/config", body: `{"failure_threshold":1}`},
			{method: http.MethodPut, path: "/v1/admin/agents/" + name, body: `{"contact":"x"}`},
			{method: http.MethodDelete, path: adminPath + name},
			{method: http.MethodGet, path: "/v1/admin/quarantine?agent_id=" + name},
		} {
			if r := d.call(x.method, x.path, x.body); r.status != http.StatusBadRequest && r.status != http.StatusNotFound {
				t.Errorf("%s: status %d: %s", r.what, r.status, r.body)
			}
		}
	}
	for _, name := range []string{mark + ` x`, mark + `\n`, `{` + mark + `}`, ``, mark + `é`} {
		r := d.call(http.MethodPost, "/v1/batch", `{"operations":[{"op":"acquire","agent":"`+name+`"}]}`).want(http.StatusOK)
		results, _ := r.get("results").([]any)
		if first, _ := results[0].(map[string]any); first["code"] != "invalid_agent_name" {
			t.Errorf("batch, name %q: %s", name, r.body)
		}
	}
	// A hostile reason, actor or error does not break a line of the log either.
	d.call(http.MethodPost, adminPath+"Good/open", `{"reason":"a\nb"}`).want(http.StatusUnprocessableEntity)
	for key := range strings.FieldsSeq(redisCLI(t, s, "KEYS", "*")) {
		ours := strings.HasPrefix(key, "circuit_breaker:replica") || // the heartbeats, what each says of itself,
			key == "circuit_breaker:born" || key == "circuit_breaker:stream" // the identity of the data, who came
		if !ours {
			t.Errorf("key %s", key)
		}
	}
	// Level debug shows the path of each request; end checks that each line is one JSON object.
	for _, line := range d.allLogged(mark) {
		if !strings.Contains(line, `"msg":"request"`) || !strings.Contains(line, `"agent":""`) {
			t.Errorf("a bad name is in the log: %s", line)
		}
	}
	if m := string(d.call(http.MethodGet, "/metrics", "").body); strings.Contains(m, mark) {
		t.Error("a bad name is in the metrics")
	}
}

// TestPlantedKeys_IndexIsRepaired: the index is rebuilt from the agents' keys.
func TestPlantedKeys_IndexIsRepaired(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	redisCLI(t, s, "SET", "circuit_breaker:agents", "x")
	redisCLI(t, s, "SET", "circuit_breaker:Before:state", "open")
	d := start(t, "REDIS_URL="+s.URL())
	d.run("Agent", "failure", 5)
	testkit.Eventually(t, "the agents to be listed", 5*time.Second, func() error {
		list := string(d.call(http.MethodGet, "/v1/admin/circuit_breakers", "").want(http.StatusOK).body)
		if !strings.Contains(list, `"agent_id":"Agent"`) || !strings.Contains(list, `"agent_id":"Before"`) {
			return errors.New(list)
		}
		return nil
	})
}
