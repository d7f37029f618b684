package app

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// whoAsked is the end of a line.
var whoAsked = regexp.MustCompile(`"circuit_breaker.gate".*"actor":"alice","address":"127.0.0.1"`)

var actionID = regexp.MustCompile("action [0-9a-f]{16}")

// TestAudit_EachChangeLeavesOneEntryAndOneLine whichever way it comes, with who asked for it, from where, and what was
// before. No name, reason or header forges another one. Deleting the agent deletes none of it.
func TestAudit_EachChangeLeavesOneEntryAndOneLine(t *testing.T) {
	t.Parallel()
	onEachEngineAndCluster(t, func(t *testing.T, url string) {
		d := serveBreakerd(t, url)
		b := serveProgram(t, buildBridge, url)
		const at, profile = "/v1/admin/circuit_breakers/a", "/v1/admin/agents/a"
		forged := "@6.6.6.6 x 1 manual_open closed>open 00 mallory 0/0/0/0 y"
		var last string
		for _, c := range []struct {
			on                 *served
			method, path, body string
			header             []string
			do                 func() error
			event, want        string // of the entry: agent, from, to, actor, address, reason, change
		}{
			{
				on: d, method: "POST", path: at + "/open", body: `{"reason":"` + forged + `"}`, event: "manual_open",
				want: "a CLOSED OPEN alice 127.0.0.1 " + forged,
			},
			{
				on: d, method: "POST", path: at + "/close", body: `{"reason":"known","force":true}`, event: "manual_close",
				want: "a OPEN CLOSED alice 127.0.0.1 known",
			},
			{
				on: d, method: "POST", path: at + "/reset", body: `{"target_state":"HALF_OPEN"}`, event: "manual_reset",
				want: "a CLOSED HALF_OPEN alice 127.0.0.1 manual",
			},
			{
				on: d, method: "PUT", path: at + "/config", body: `{"failure_threshold":3}`, event: "configured",
				want: `a <nil> <nil> alice 127.0.0.1 config set map[after:map[_by:alice failure_threshold:3] before:<nil>]`,
			},
			{
				on: d, method: "DELETE", path: at + "/config", header: []string{"If-Match", "*"}, event: "configured",
				want: `a <nil> <nil> alice 127.0.0.1 config deleted map[after:<nil> before:map[_by:alice failure_threshold:3]]`,
			},
			{
				on: d, method: "PUT", path: profile, body: `{"contact":"@1.2.3.4 {\"before\":1}"}`, event: "configured",
				want: `a <nil> <nil> alice 127.0.0.1 profile set map[after:map[contact:@1.2.3.4 {"before":1}] before:<nil>]`,
			},
			{on: d, method: "DELETE", path: at, event: "forgotten", want: "a <nil> <nil> alice 127.0.0.1 all keys deleted"},
			{
				on: d, method: "POST", path: "/v1/admin/actions", body: `{"agents":["nobody"],"action":"reset","reason":"` + forged + `"}`,
				event: "action", want: "<nil> <nil> <nil> alice 127.0.0.1 action ID: reset of 1 agents: " + forged,
			},
			{
				on: d, method: "PUT", path: "/v1/admin/fleet", body: `{"action":"shed","percentage":20,"reason":"load"}`, event: "gate",
				want: "<nil> <nil> <nil> alice 127.0.0.1 none -> 0.8 of all calls: load",
			},
			{
				on: d, method: "DELETE", path: "/v1/admin/fleet", event: "gate",
				want: "<nil> <nil> <nil> alice 127.0.0.1 0.8 of all calls -> none",
			},
			{
				on: b, method: "PUT", path: "/api/v1/agents/b", body: `{"contact":"c"}`, event: "configured",
				want: "b <nil> <nil> alice 127.0.0.1 profile set map[after:map[contact:c] before:<nil>]",
			},
			{
				on: b, method: "POST", path: "/api/v1/workflows", event: "workflow",
				body: `{"workflow_id":"w","steps":{"s":{"agent_name":"b"}}}`, want: "<nil> <nil> <nil> alice 127.0.0.1 workflow w set",
			},
			{on: b, method: "DELETE", path: "/api/v1/workflows/w", event: "workflow", want: "<nil> <nil> <nil> alice 127.0.0.1 workflow w deleted"},
			{
				on: b, method: "DELETE", path: "/api/v1/agents/b", event: "configured",
				want: "b <nil> <nil> alice 127.0.0.1 profile deleted map[after:<nil> before:map[contact:c]]",
			},
			{
				on: b, method: "PUT", path: "/api/v1/agents/p", event: "configured",
				body: `{"contact":"c","circuit_breaker_config":{"failure_threshold":3}}`,
				want: "p <nil> <nil> alice 127.0.0.1 profile set, config set " +
					"map[after:map[config:map[failure_threshold:3] profile:map[contact:c]] before:map[config:<nil> profile:<nil>]]",
			},
			{
				on: b, method: "PUT", path: "/api/v1/agents/p", event: "configured",
				body: `{"contact":"c","circuit_breaker_config":{"failure_threshold":4}}`,
				want: "p <nil> <nil> alice 127.0.0.1 config set map[after:map[failure_threshold:4] before:map[failure_threshold:3]]",
			},
			{
				on: b, method: "DELETE", path: "/api/v1/agents/p", event: "configured",
				want: "p <nil> <nil> alice 127.0.0.1 profile deleted, config deleted " +
					"map[after:map[config:<nil> profile:<nil>] before:map[config:map[failure_threshold:4] profile:map[contact:c]]]",
			},
			{
				on: d, event: "manual_open", want: "c CLOSED OPEN " + d.ID + " <nil> @6.6.6.6 x",
				do: func() error { return d.Manager.Open(t.Context(), "c", breaker.Hold{Reason: "@6.6.6.6 x"}) },
			},
			{on: d, event: "manual_release", want: "c OPEN HALF_OPEN bob <nil> over", do: func() error {
				return d.Manager.Release(t.Context(), "c", breaker.Release{Reason: "over", Actor: "bob"})
			}},
			{
				on: d, event: "configured", want: "c <nil> <nil> bob <nil> config set map[after:map[failure_threshold:7] before:<nil>]",
				do: func() error { return d.Configure(t.Context(), "c", breaker.Policy{FailureThreshold: 7}, "bob") },
			},
		} {
			what := c.method + c.path + c.event
			said := func() int {
				log := d.out.String() + b.out.String()
				return strings.Count(log, `"event":"circuit_breaker.`+c.event+`"`) + strings.Count(log, `"event":"bridge.`+c.event+`"`)
			}
			before := said()
			if c.do == nil {
				header := append(slices.Clone(c.header), "X-Actor", "alice", "X-Forwarded-For", "6.6.6.6")
				if status, answer := c.on.do(t, c.method, c.path, c.body, header...); status >= 300 {
					t.Fatalf("%s: %d %v", what, status, answer)
				}
			} else if err := c.do(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			_, page := d.do(t, "GET", "/v1/admin/audit?since="+last, "")
			entries, _ := page["entries"].([]any)
			if len(entries) != 1 {
				t.Errorf("%s leaves %d entries: %v", what, len(entries), page)
				continue
			}
			e, _ := entries[0].(map[string]any)
			last, _ = e["id"].(string)
			for _, document := range []string{"before", "after"} {
				if change, _ := e["change"].(map[string]any); change != nil {
					if fields, _ := change[document].(map[string]any); fields != nil {
						delete(fields, "_at")
					}
				}
			}
			got := fmt.Sprintln(e["agent_id"], e["from"], e["to"], e["actor"], e["address"], e["reason"], e["change"])
			got = actionID.ReplaceAllString(got, "action ID")
			if got = strings.TrimSuffix(strings.TrimSpace(got), " <nil>"); e["event"] != c.event || got != c.want {
				t.Errorf("%s leaves %v\n%s, want\n%s", what, e["event"], got, c.want)
			}
			if n := said() - before; n != 1 {
				t.Errorf("%s: %d lines of %s", what, n, c.event)
			}
			if c.event == "gate" && !whoAsked.MatchString(d.out.String()) {
				t.Errorf("%s: no line has who asked, and from where", what)
			}
		}
	})
}
