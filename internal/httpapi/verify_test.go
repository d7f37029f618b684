package httpapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// codes are what was found, as code and whose.
func codes(g routetest.Got) (out []string) {
	all, _ := g.JSON["findings"].([]any)
	for i := range all {
		whose := ""
		for _, name := range []string{"replica", "agent_id", "key"} {
			if text, is := g.At(fmt.Sprintf("findings.%d.%s", i, name)).(string); is && whose == "" {
				whose = text
			}
		}
		out = append(out, fmt.Sprintf("%v %s", g.At(fmt.Sprintf("findings.%d.code", i)), whose))
		if action, _ := g.At(fmt.Sprintf("findings.%d.action", i)).(string); action == "" {
			out = append(out, "no action")
		}
	}
	return out
}

func TestVerify_ComparesReplicas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`).Want(200)
	known := heard("known", "follows", 0, true)
	known.Born = "one"
	f.fleet.heard = []redisdocs.Heard{known, heard("starting", "follows", 0, true)} // which has not told what data it sees
	if got := codes(f.Do("GET", "/v1/admin/verify", "").Want(200, "replicas=2")); got != nil {
		t.Errorf("%q", got)
	}
	f.fleet.heard = nil
	for _, id := range []string{"a", "b", "c"} {
		h := heard(id, "follows", 0, true)
		h.Born = "one"
		f.fleet.heard = append(f.fleet.heard, h)
	}
	if got := codes(f.Do("GET", "/v1/admin/verify", "").Want(200, "replicas=3", "next_cursor=null")); got != nil {
		t.Errorf("%q", got)
	}
	odd := heard("odd", "", 0, true)
	odd.Policy, odd.DegradedMs, odd.Waiting, odd.WaitingAge, odd.Born = "q", 1000, 142, 60, "two"
	sending := heard("sending", "follows", 0, true)
	sending.Waiting, sending.WaitingAge, sending.Born = 12, 0.01, "one"
	f.fleet.heard = append(f.fleet.heard, heard("gone", "follows", time.Minute, true), odd, heard("off", "", 0, false), sending)
	got := codes(f.Do("GET", "/v1/admin/verify?deep=0", "").Want(200))
	want := []string{
		"replica_missing gone", "policy_differs odd", "gate_behind odd", "degraded odd", "outcomes_wait odd",
		"store_differs odd", "switch_off off",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestVerify_DeepGoesThroughEveryAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var names []string
	for i := range 5 {
		names = append(names, fmt.Sprintf("agent-%d", i))
		f.fail(names[i], 1)
	}
	fault := func(code, agent string) {
		f.records.faults = append(f.records.faults, redisdocs.Fault{Code: code, Agent: agent, Key: "k", Text: "t"})
	}
	fault(redisdocs.FaultBadKey, "agent-1")
	fault(redisdocs.FaultExpiry, "agent-4")
	fault(redisdocs.FaultNotInIndex, "lost")
	f.records.unlisted = []string{"lost", "agent-2"}
	f.records.planted = []redisdocs.Fault{{Code: redisdocs.FaultBadKey, Key: "circuit_breaker:stream", Text: "t"}}
	if err := f.records.Put(overrides, "agent-3", `{"failure_threshold":"many"}`); err != nil {
		t.Fatal(err)
	}
	var found []string
	agents, cursor := 0, ""
	for pages := 0; ; pages++ {
		g := f.Do("GET", "/v1/admin/verify?deep=1&limit=2&cursor="+url.QueryEscape(cursor), "").Want(200)
		found = append(found, codes(g)...)
		n, _ := g.JSON["agents"].(float64)
		agents += int(n)
		next, more := g.JSON["next_cursor"].(string)
		if cursor = next; !more || pages > 9 {
			break
		}
	}
	want := []string{
		"bad_key circuit_breaker:stream", "bad_key agent-1", "override_invalid agent-3", "wrong_expiry agent-4", "not_in_index lost",
	}
	if !slices.Equal(found, want) || agents != len(names)+1 {
		t.Errorf("%d agents: %q", agents, found)
	}
	for _, bad := range []string{"deep=2", "limit=0", "limit=1001", "deep=1&cursor=x", "cursor=after.a", "x=1"} {
		f.Do("GET", "/v1/admin/verify?"+bad, "").WantProblem(422, problem.InvalidValue)
	}
	f.records.TakeDown(false)
	f.Do("GET", "/v1/admin/verify?deep=1", "").WantProblem(503, problem.StoreUnavailable)
}

func TestReplicas_OneThatIsCutOffShowsItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fleet.self = heard("a", "", 0, true)
	f.fleet.self.Waiting, f.fleet.self.DegradedMs = 142, 1000
	stale := heard("a", "", time.Second, true)
	f.fleet.heard = []redisdocs.Heard{stale, heard("b", "", 0, true)}
	f.Do("GET", "/v1/admin/replicas", "").Want(200, "degraded=false", `self="a"`, "replicas.0.waiting.outcomes=142", "replicas.0.age_seconds=1", "replicas.1.waiting.outcomes=0")
	f.records.TakeDown(false)
	g := f.Do("GET", "/v1/admin/replicas", "").Want(200, "degraded=true", `replicas.0.id="a"`, "replicas.0.waiting.outcomes=142", `replicas.0.degraded_since="1970-01-01T00:00:01Z"`)
	if all, _ := g.JSON["replicas"].([]any); len(all) != 1 {
		t.Error(g.Text)
	}
}

func TestReplicas_ShowWhatTheyUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := heard("a", "", 0, true)
	h.CPU, h.CPUs, h.MemoryBytes, h.MemoryLimit, h.Goroutines, h.Agents = 0.25, 4, 10, 100, 7, 3
	h.Labels, h.Listen = map[string]string{"canary": "true"}, []string{"127.0.0.1:18180"}
	h.Certificates = []redisdocs.Certificate{{Role: redisdocs.CertRedis + redisdocs.CertAuthority, Subject: "CN=ca", NotAfterMs: 1770800400000}}
	h.BeatMs = 1770800400000
	f.fleet.heard = []redisdocs.Heard{h}
	f.Do("GET", "/v1/admin/replicas", "").Want(200, "replicas.0.cpu.share=0.25", "replicas.0.cpu.cores=4", "replicas.0.memory.used_bytes=10", "replicas.0.memory.limit_bytes=100", "replicas.0.goroutines=7", "replicas.0.agents=3", `replicas.0.labels.canary="true"`, `replicas.0.listen.0="127.0.0.1:18180"`, `replicas.0.certificates.0.role="redis_ca"`, `replicas.0.certificates.0.not_after="2026-02-11T09:00:00Z"`, "replicas.0.heartbeat_ms=1770800400000")
}

func TestTokens_ShowNoSecret(t *testing.T) {
	t.Parallel()
	newFixture(t).Do("GET", "/v1/admin/tokens", "").Want(200, "file=null")
	c := guarded(t, routetest.Guard(t))
	c.Token = routetest.TokenOf("admin")
	g := c.Do("GET", "/v1/admin/tokens", "").Want(200)
	all, _ := g.JSON["tokens"].([]any)
	seen := map[any]map[string]any{}
	for _, one := range all {
		entry, _ := one.(map[string]any)
		seen[entry["name"]] = entry
	}
	if len(seen) != 6 || seen["expired"]["expired"] != true || seen["expired"]["expires_at"] != "2020-01-01T00:00:00Z" ||
		seen["read"]["role"] != "read" || seen["read"]["expired"] != false || fmt.Sprint(seen[routetest.Elsewhere]["agents"]) != "[elsewhere-*]" {
		t.Errorf("%v", g.Text)
	}
	if strings.Contains(g.Text, "sha256") || strings.Contains(g.Text, "token-of") {
		t.Error(g.Text)
	}
}
