package doctor

import (
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

var now = time.Date(2026, 2, 11, 9, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func is[T any](v T) Fact[T] { return Fact[T]{Value: v, Asked: true} }

func failed[T any](status int, code client.Code, nearest ...string) Fact[T] {
	return Fact[T]{Asked: true, Err: &client.Error{Status: status, Code: code, Detail: "said so", Nearest: nearest}}
}

func well(checks map[string]client.Check) client.Checks {
	all := map[string]client.Check{
		"redis":         {Status: healthy, Server: "redis://10.0.0.1:6379", LatencyMs: 0.5},
		"global_switch": {Status: healthy}, "redis_memory": {Status: healthy, Detail: "no limit is set"}, "clock": {Status: healthy},
	}
	maps.Copy(all, checks)
	return client.Checks{Health: client.Health{ReplicaID: "r1", Status: healthy}, Checks: all}
}

// sound are the facts of a healthy fleet; of an agent too, unless it is "".
func sound(agent string) *Facts {
	f := &Facts{
		Agent: agent, Now: now, Servers: []Server{{"http://a:1", is(well(nil))}},
		Gate: is(client.Fleet{Action: "none", Share: 1, NowMs: now.UnixMilli()}),
		Replicas: is(client.ReplicaList{Replicas: []client.Replica{
			{ID: "r1", State: "alive", Enabled: true}, {ID: "r2", State: "alive", Enabled: true},
		}}),
	}
	if agent == "" {
		f.Summary = is(client.Summary{Agents: 3, NowMs: now.UnixMilli()})
		f.Held, f.Overridden, f.Open = is(client.BreakerList{}), is(client.BreakerList{}), is(client.BreakerList{})
		return f
	}
	f.Breaker = is(client.BreakerDetail{Breaker: client.Breaker{AgentID: agent, State: closed}, Policy: map[string]client.PolicyValue{
		"half_open_success_threshold": {Value: json.RawMessage("3")}, "window_size_seconds": {Value: json.RawMessage("120")},
		"mode": {Value: json.RawMessage(`"observe"`), Origin: "environment"}, "enabled": {Value: json.RawMessage("false"), Origin: "registry"},
	}})
	f.Explanation = is(client.Explanation{State: closed, NowMs: now.UnixMilli(), Because: []client.ReasonClause{
		reason("closed", "B2", "calls", 20.0, "failures", 1.0, "consecutive_failures", 1.0),
	}})
	f.Override = failed[client.Override](404, client.CodeConfigAbsent)
	f.Profile, f.Events = is(client.Agent{LastSeen: ago(time.Minute), Contact: "ops@example.org"}), is(client.AgentEvents{})
	return f
}

func reason(code, clause string, pairs ...any) client.ReasonClause {
	r := client.ReasonClause{Code: code, Clause: clause, Text: "text of " + code + ".", Values: map[string]any{}}
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		r.Values[name] = pairs[i+1]
	}
	return r
}

// opened has the agent's breaker open.
func (f *Facts) opened(since, until time.Time, why ...client.ReasonClause) {
	f.Breaker.Value.State, f.Breaker.Value.OpenedAt, f.Breaker.Value.TimeoutUntil = open, since, until
	f.Breaker.Value.Reason, f.Breaker.Value.FailureCount, f.Breaker.Value.FailureRate = "consecutive_failures", 5, 1
	f.Explanation.Value.State, f.Explanation.Value.Because = open, why
}

func (f *Facts) checks(name string, c client.Check) {
	f.Servers[0].Health = is(well(map[string]client.Check{name: c}))
}

func (f *Facts) second(change func(*client.Replica)) { change(&f.Replicas.Value.Replicas[1]) }

func listed(entries ...client.ListEntry) Fact[client.BreakerList] {
	return is(client.BreakerList{CircuitBreakers: entries, Total: int64(len(entries))})
}

// faults are facts, each with what is wrong with them.
func faults() []struct {
	name, check, agent string
	cause              Cause
	change             func(f *Facts)
	evidence, next     string
} {
	hold := func(h client.Hold) func(*Facts) {
		return func(f *Facts) {
			f.Breaker.Value.State, f.Breaker.Value.Hold, f.Breaker.Value.Reason = h.Kind, &h, "flooding"
		}
	}
	bad := func(name, code, server, detail string) func(*Facts) {
		return func(f *Facts) {
			f.checks(name, client.Check{Status: "degraded", Code: code, Server: server, Detail: detail, Since: ago(time.Minute)})
		}
	}
	events := func(n int, apart time.Duration) (out client.AgentEvents) {
		for i := range n {
			out.Events = append(out.Events, client.Event{Event: "opened", At: ago(time.Duration(i) * apart)})
		}
		return out
	}
	held := func(h client.Hold, seen time.Time) client.ListEntry {
		return client.ListEntry{Breaker: client.Breaker{AgentID: "b", State: h.Kind, Hold: &h, Reason: "x"}, LastSeen: seen}
	}
	overridden := func(o client.ListedOverride) Fact[client.BreakerList] {
		return listed(client.ListEntry{Breaker: client.Breaker{AgentID: "b", State: closed}, Override: &o})
	}
	return []struct {
		name, check, agent string
		cause              Cause
		change             func(f *Facts)
		evidence, next     string
	}{
		{"the switch is off here", "global_switch", "a", "", bad("global_switch", "", "", ""), "off on replica r1, since 2026-02-11T08:59:00Z (1m0s)", "curl -s http://a:1/health/checks | jq .checks.global_switch"},
		{"the switch is off elsewhere", "global_switch", "", "", func(f *Facts) { f.second(func(r *client.Replica) { r.Enabled = false }) }, "r2", `curl -s http://a:1/v1/admin/replicas | jq '.replicas[] | select(.id == "r2")'`},
		{"away", "store_away", "a", "", bad("redis", "unreachable", "redis://10.0.0.1:6379", "connection refused"), "connection refused", "redis-cli -h 10.0.0.1 -p 6379 PING"},
		{"wrong", "store_answers", "a", "", bad("redis", "wrong_answer", "rediss://:***@10.0.0.1:6380/2", "LOADING"), "LOADING", "redis-cli --tls -h 10.0.0.1 -p 6380 PING"},
		{"denied", "store_answers", "", "", bad("scripts", "", "", "refuses the operations of 2 agents"), "of 2 agents", "ACL LOG 5"},
		{"lost", "store_data", "", "", bad("redis_data", "lost", "", "Redis lost its data"), "overrides and profiles are gone", "breakerctl events --since 1h --kind store_reset"},
		{"evicts", "store_eviction", "a", "", bad("redis_memory", "evicts", "redis://s1:26379,s2:26379/mymaster", "allkeys-lru"), "allkeys-lru", "(set -- $(redis-cli -h s1 -p 26379 SENTINEL get-master-addr-by-name mymaster); redis-cli -h $1 -p $2 CONFIG SET maxmemory-policy noeviction)"},
		{"full", "store_memory", "", "", bad("redis_memory", "full", "unix:///run/redis.sock", "uses 97 %"), "uses 97 %", "redis-cli -s /run/redis.sock INFO memory"},
		{"degraded", "replicas_degraded", "a", "", func(f *Facts) {
			f.second(func(r *client.Replica) { r.DegradedSince, r.LastError = ago(time.Hour), "timeout" })
		}, "replica r2", `curl -s http://a:1/v1/admin/replicas | jq '.replicas[] | select(.id == "r2")'`},
		{"degraded here", "replicas_degraded", "a", "", func(f *Facts) { f.checks("redis", client.Check{Status: "degraded", Code: "returning", Degraded: true}) }, "replica r1", "jq .checks.redis"},
		{"missing", "replicas_missing", "", "", func(f *Facts) { f.second(func(r *client.Replica) { r.State, r.AgeSeconds = "gone", 30 }) }, "30 s ago", `curl -s http://a:1/v1/admin/replicas | jq '.replicas[] | select(.id == "r2")'`},
		{"drifts", "replicas_policy", "a", "", func(f *Facts) { f.second(func(r *client.Replica) { r.Drifts = true }) }, "r2", `curl -s http://a:1/v1/admin/replicas | jq '.replicas[] | select(.id == "r2")'`},
		{"stopped", "gate", "a", "", func(f *Facts) {
			f.Gate = is(client.Fleet{Action: "stop", Actor: "alice", Reason: "fire", StartedAt: ago(time.Hour), NowMs: now.UnixMilli()})
		}, `by alice since 2026-02-11T08:00:00Z (1h0m), without an end: "fire"`, "breakerctl resume --reason 'the reason is gone'"},
		{"a gate by hand", "gate", "", "", func(f *Facts) { f.Gate = is(client.Fleet{Action: "none", Problem: "from=x"}) }, "from=x", "breakerctl resume"},
		{"banned", "hold", "a", ManualBan, hold(client.Hold{Kind: open, Actor: "alice", Since: ago(26 * time.Hour)}), `alice holds it OPEN since 2026-02-10T07:00:00Z (1d2h), without an end, most likely forgotten: "flooding"`, "breakerctl half-open a --reason issue_resolved"},
		{"banned for a while", "hold", "a", ManualBan, hold(client.Hold{Kind: open, Since: ago(time.Hour), Until: now.Add(time.Hour), Protected: true}), "until 2026-02-11T10:00:00Z (in 1h0m), protected", "breakerctl half-open a --force --reason issue_resolved"},
		{"held closed", "hold", "a", "", hold(client.Hold{Kind: closed, Actor: "bob", Since: ago(time.Hour)}), "every call is admitted, whatever fails", "breakerctl release a --reason 'the hold is not needed'"},
		{"opened by hand", "hold", "a", ManualBan, func(f *Facts) { f.opened(ago(time.Second), now.Add(time.Minute), reason("hand_edit", "B19")) }, "text of hand_edit", "breakerctl half-open a --reason issue_resolved"},
		{"invalid", "override", "a", "", func(f *Facts) { f.Breaker.Value.PolicyProblem = "failure_threshold -3" }, "failure_threshold -3", "breakerctl config unset a --all --reason 'doctor: not valid'"},
		{"unreadable", "override", "a", "", func(f *Facts) { f.Override = failed[client.Override](422, client.CodeConfigInvalid) }, "said so", "config unset"},
		{"ended", "override", "a", "", func(f *Facts) {
			f.Override = is(client.Override{By: "alice", At: ago(time.Hour), Until: ago(time.Minute), Ended: new(true)})
		}, "that of alice ended 2026-02-11T08:59:00Z", "breakerctl config unset a --all --reason 'doctor: it has ended'"},
		{"old", "override", "a", "", func(f *Facts) {
			f.Override = is(client.Override{By: "alice", At: ago(50 * time.Hour)})
			f.Breaker.Value.Policy["failure_threshold"] = client.PolicyValue{Origin: "redis", Value: json.RawMessage("20")}
		}, "without an end: failure_threshold=20", "breakerctl config get a"},
		{"observes", "mode", "a", "", func(f *Facts) { f.Explanation.Value.NotTripping = []client.ReasonClause{reason("observe", "B21")} }, "from: environment", "breakerctl config set a mode=enforce"},
		{"disabled", "mode", "a", "", func(f *Facts) { f.Explanation.Value.NotTripping = []client.ReasonClause{reason("disabled", "B21")} }, "every layer has to allow it", "breakerctl config get a"},
		{"disabled by an override", "mode", "a", "", func(f *Facts) {
			f.Breaker.Value.Policy["enabled"] = client.PolicyValue{Origin: "redis"}
			f.Explanation.Value.NotTripping = []client.ReasonClause{reason("disabled", "B21")}
		}, "text of disabled", "breakerctl config unset a enabled"},
		{"asked to wait", "upstream_wait", "a", AutomaticBan, func(f *Facts) {
			f.opened(ago(time.Minute), now.Add(14*time.Minute), reason("consecutive_failures", "B6"), reason("wait", "B22", "upstream_seconds", 900.0, "base_seconds", 60.0))
		}, "for 900 s", "breakerctl wait a --for state=half_open --timeout 15m0s"},
		{"alone", "one_reporter", "a", AutomaticBan, func(f *Facts) {
			f.opened(ago(time.Second), now.Add(time.Minute), reason("consecutive_failures", "B6"), reason("fails_alone", "B23"))
		}, "text of fails_alone", "breakerctl config set a minimum_reporters=2"},
		{"loops", "flapping", "a", HalfOpenLoop, func(f *Facts) {
			f.opened(ago(time.Second), now.Add(time.Minute), reason("probe_failed", "B13", "calls", 3.0, "failures", 3.0))
			f.Breaker.Value.Reopens = 4
		}, "All probes fail: keep it banned until the agent is repaired. Whom to ask: ops@example.org", "breakerctl open a --for 1h"},
		{"nearly passes", "flapping", "a", HalfOpenLoop, func(f *Facts) {
			f.opened(ago(time.Second), now.Add(time.Minute), reason("probe_failed", "B13", "calls", 3.0, "failures", 1.0))
			f.Breaker.Value.Reopens = 3
		}, "2 of 3 succeeded, and it takes 3", "breakerctl config set a half_open_success_threshold=2 --for 1h"},
		{"flaps", "flapping", "a", HalfOpenLoop, func(f *Facts) { f.Events = is(events(6, 5*time.Minute)) }, "6 openings within the hour", "recovery_ramp_seconds=600"},
		{"waits", "waiting", "a", AutomaticBan, func(f *Facts) {
			f.opened(ago(20*time.Second), now.Add(40*time.Second), reason("consecutive_failures", "B6"))
		}, "the next probe comes at 2026-02-11T09:00:40Z", "breakerctl wait a --for state=half_open --timeout 1m40s"},
		{"waits long", "waiting", "a", LongTimeout, func(f *Facts) {
			f.opened(ago(30*time.Minute), now.Add(30*time.Minute), reason("consecutive_failures", "B6"))
		}, "it waits 1h0m", "breakerctl half-open a --reason 'doctor: timeout too long'"},
		{"probes", "waiting", "a", AutomaticBan, func(f *Facts) {
			f.opened(ago(time.Minute), time.Time{}, reason("consecutive_failures", "B6"))
			f.Breaker.Value.State, f.Breaker.Value.Probes = halfOpen, &client.Probes{Max: 3, Need: 3}
		}, "no call has come since", "breakerctl wait a --for state=closed"},
		{"returns", "waiting", "a", AutomaticBan, func(f *Facts) {
			f.Breaker.Value.Ramp = &client.Ramp{Since: now, Until: now.Add(time.Minute)}
			f.Explanation.Value.Because = append(f.Explanation.Value.Because, reason("ramping", "B16", "share", 0.25))
		}, "a share of 0.25", "breakerctl reset a"},
		{"fails below the thresholds", "not_refused", "a", "", func(f *Facts) {
			f.Explanation.Value.Because = []client.ReasonClause{reason("closed", "B2", "calls", 8.0, "failures", 7.0)}
			f.Explanation.Value.NotTripping = []client.ReasonClause{reason("minimum_calls", "B7"), reason("failure_threshold_off", "B6")}
		}, "7 of 8 calls failed, 0 in a row, and it does not open. text of minimum_calls. text of failure_threshold_off.", "breakerctl config get a"},
		{"misspelt", "name", "a", "", func(f *Facts) { f.forget("ab", "ac") }, "the nearest names are ab, ac", "breakerctl doctor ab"},
		{"no name", "name", "a b", "", func(f *Facts) { f.forget(); f.Breaker = failed[client.BreakerDetail](422, client.CodeInvalidAgentName) }, `"a b" is no name of an agent: said so`, "breakerctl get"},
		{"nobody", "name", "a", "", func(f *Facts) { f.forget() }, "no name is near", "breakerctl get"},
		{"endless holds", "holds_endless", "", "", func(f *Facts) { f.Held = listed(held(client.Hold{Kind: open, Since: now}, now)) }, "1 have no end: b (held OPEN by somebody without a name", "breakerctl doctor b"},
		{"unused holds", "holds_unused", "", "", func(f *Facts) {
			f.Held = listed(held(client.Hold{Kind: open, Since: ago(2 * time.Hour), Until: now.Add(time.Hour)}, ago(2*time.Hour-time.Minute)))
		}, "last called 2026-02-11T07:01:00Z", "breakerctl doctor b"},
		{"invalid overrides", "overrides_invalid", "", "", func(f *Facts) { f.Overridden = overridden(client.ListedOverride{Problem: "bad", At: now}) }, "b (bad)", "breakerctl doctor b"},
		{"ended overrides", "overrides_ended", "", "", func(f *Facts) {
			f.Overridden = overridden(client.ListedOverride{Ended: true, At: ago(time.Hour), Until: ago(time.Minute)})
		}, "ended 2026-02-11T08:59:00Z", "breakerctl doctor b"},
		{"endless overrides", "overrides_endless", "", "", func(f *Facts) {
			f.Overridden = overridden(client.ListedOverride{By: "alice", At: ago(25 * time.Hour), Reason: "trial"})
		}, `b (alice since 2026-02-10T08:00:00Z (1d1h): "trial")`, "breakerctl doctor b"},
		{"open for long", "open_long", "", "", func(f *Facts) {
			f.Open = listed(client.ListEntry{Breaker: client.Breaker{AgentID: "b", State: open, Reason: "failure_rate", OpenedAt: ago(61 * time.Minute)}})
		}, "failure_rate since", "breakerctl doctor b"},
		{"some flap", "flappers", "", "", func(f *Facts) { f.Summary.Value.Flappers = []client.Flapper{{AgentID: "b", Openings: 4}} }, "b (4 openings)", "breakerctl doctor b"},
		{"strangers", "unregistered", "", "", func(f *Facts) { f.Summary.Value.Unregistered = client.Named{Count: 1, Names: []string{"b"}} }, "1 of 3 agents are in no registry: b", "breakerctl describe b"},
		{"a certificate ends", "health", "a", "", bad("tls", "", "", "ends soon"), "tls of replica r1", "jq .checks.tls"},
	}
}

// forget makes the agent one that is not known.
func (f *Facts) forget(nearest ...string) {
	f.Breaker = failed[client.BreakerDetail](404, client.CodeAgentUnknown, nearest...)
	f.Explanation, f.Profile = failed[client.Explanation](404, client.CodeAgentUnknown), failed[client.Agent](404, client.CodeAgentUnknown)
	f.Events, f.Override = failed[client.AgentEvents](404, client.CodeAgentUnknown), failed[client.Override](404, client.CodeAgentUnknown)
}

func TestJudge_NamesEachFaultFirst(t *testing.T) {
	t.Parallel()
	var found []string
	for _, c := range faults() {
		f := sound(c.agent)
		c.change(f)
		r := Judge(f, Options{})
		first := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Status != Fine })
		if first < 0 {
			t.Errorf("%s: nothing was found", c.name)
			continue
		}
		got := r.Findings[first]
		if got.Check != c.check || got.Status != Fault || got.Cause != c.cause || !strings.Contains(got.Evidence, c.evidence) ||
			!strings.Contains(got.Next, c.next) || strings.Contains(got.Evidence, "%!") {
			t.Errorf("%s: %+v", c.name, got)
		}
		if !r.Found || r.Cause != got.Cause || r.Next != got.Next || !strings.HasSuffix(r.Verdict, got.Evidence) {
			t.Errorf("%s: the verdict is %+v", c.name, r)
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-nc", got.Next).CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v %s", c.name, got.Next, err, out)
		}
		found = append(found, got.Check)
	}
	for _, c := range Checks() {
		if c.Name != "server" && !slices.Contains(found, c.Name) {
			t.Errorf("no case has a fault of %s", c.Name)
		}
	}
}

func TestJudge_FindsNothingInAHealthyFleet(t *testing.T) {
	t.Parallel()
	for agent, checks := range map[string]int{"": 20, "a": 21} {
		r := Judge(sound(agent), Options{})
		if r.Found || r.Verdict != "nothing wrong" || r.Next != "" || len(r.Findings) != checks {
			t.Errorf("%q: %d findings, %+v", agent, len(r.Findings), r)
		}
	}
}

// TestJudge_WhatIsNotKnownIsFound and hides nothing else.
func TestJudge_WhatIsNotKnownIsFound(t *testing.T) {
	t.Parallel()
	for _, agent := range []string{"", "a"} {
		f := sound(agent)
		f.Gate = Fact[client.Fleet]{Asked: true, Err: errors.New("no answer within 5s")}
		r := Judge(f, Options{})
		if want := "nothing wrong is known, but not all is: gate (not known: no answer within 5s)"; !r.Found || r.Verdict != want {
			t.Errorf("%q", r.Verdict)
		}
		lost := Judge(&Facts{
			Agent: agent, Now: now, Servers: []Server{{"http://a:1", Fact[client.Checks]{Asked: true, Err: errors.New("refused")}}},
			Gate: failed[client.Fleet](503, "x"), Replicas: failed[client.ReplicaList](503, "x"), Summary: failed[client.Summary](503, "x"),
			Breaker: failed[client.BreakerDetail](503, "x"), Explanation: failed[client.Explanation](503, "x"), Override: failed[client.Override](503, "x"),
			Profile: failed[client.Agent](503, "x"), Events: failed[client.AgentEvents](503, "x"), Held: failed[client.BreakerList](503, "x"),
			Overridden: failed[client.BreakerList](503, "x"), Open: failed[client.BreakerList](503, "x"),
		}, Options{})
		for _, f := range lost.Findings {
			if f.Status != Unknown {
				t.Errorf("%q: %+v", agent, f)
			}
		}
		if len(lost.Findings) < 15 {
			t.Errorf("%q: %d findings", agent, len(lost.Findings))
		}
	}
}

// TestJudge_AnAgentThatIsCalledAndCountsNowhere may have calls under way, so that is not known.
func TestJudge_AnAgentThatIsCalledAndCountsNowhere(t *testing.T) {
	t.Parallel()
	f := sound("a")
	f.Explanation.Value.Because = []client.ReasonClause{reason("closed", "B2")}
	f.Explanation.Value.NotTripping = []client.ReasonClause{reason("ignored_outcomes", "B4")}
	if r := Judge(f, Options{}); !r.Found || !strings.Contains(r.Verdict, "not_refused (it was called since") {
		t.Errorf("%+v", r)
	}
	f.Profile.Value.LastSeen = ago(time.Hour)
	if r := Judge(f, Options{}); r.Found {
		t.Errorf("idle: %+v", r)
	}
}

func TestJudge_CommandsLeadToTheSameServers(t *testing.T) {
	t.Parallel()
	f := sound("a")
	f.forget("b")
	if r := Judge(f, Options{Program: "breakerctl --server http://b:1"}); r.Next != "breakerctl --server http://b:1 doctor b" {
		t.Error(r.Next)
	}
	f.checks("tls", client.Check{Status: "degraded"})
	f.Breaker, f.Agent = is(client.BreakerDetail{}), ""
	r := Judge(f, Options{Token: true})
	if want := `curl -s -H "Authorization: Bearer $BREAKERCTL_TOKEN" http://a:1/health/checks | jq .checks.tls`; r.Next != want {
		t.Error(r.Next)
	}
}

func TestFacts_WhomNobodyAnswers(t *testing.T) {
	t.Parallel()
	f := sound("")
	if !f.Reached() || f.Denied() != nil {
		t.Error("a healthy fleet")
	}
	f.Servers[0].Health = failed[client.Checks](401, client.CodeUnauthenticated)
	if !f.Reached() || !errors.Is(f.Denied(), client.ErrUnauthenticated) {
		t.Error("denied")
	}
	f.Servers[0].Health = Fact[client.Checks]{Asked: true, Err: errors.New("refused")}
	if f.Reached() || f.Denied() != nil {
		t.Error("unreachable")
	}
}
