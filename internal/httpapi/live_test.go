package httpapi

import (
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// samples has a sample for each operation of breakerd.
func samples() map[string]routetest.Sample[*fixture] {
	known := func(f *fixture) string { f.fail("FailingAgent", 1); return "" }
	held := func(f *fixture) string {
		f.Do("POST", "/v1/admin/circuit_breakers/FailingAgent/open", `{"reason":"x"}`).Want(200)
		return ""
	}
	configured := func(f *fixture) string {
		f.Do("PUT", "/v1/admin/circuit_breakers/FailingAgent/config", `{"timeout_seconds":1.5,"mode":"observe"}`).Want(201)
		return ""
	}
	probing := func(f *fixture) string {
		f.fail("FailingAgent", 5)
		f.advance(time.Minute)
		permit, _ := f.Do("POST", "/v1/circuit_breakers/FailingAgent/acquire", "").Want(200).JSON["permit"].(string)
		return `{"permit":"` + permit + `"}`
	}
	quarantined := func(f *fixture) string {
		f.records.items["FailingAgent"] = []string{`{"error":"boom"}`}
		return known(f)
	}
	happened := func(f *fixture) string {
		f.records.happen("5-1", "a", "1770800400000 manual_open closed>open 00000000000000aa alice 0/0/0/0 a fire")
		f.records.happen("5-2", "-", "1770800400000 gate > 0000000000000000 bob 0/0/0/0 stop")
		return ""
	}
	stopped := func(f *fixture) string {
		f.fleet.heard = []redisdocs.Heard{heard("a", "follows", time.Second, true)}
		f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`).Want(200)
		return ""
	}
	faulty := func(f *fixture) string {
		f.records.planted = []redisdocs.Fault{{Code: redisdocs.FaultBadKey, Key: "circuit_breaker:stream", Text: "it is a string, not a stream"}}
		return stopped(f)
	}
	acting := func(f *fixture) string { f.fail("FailingAgent", 5); return "" }
	acted := func(f *fixture) string {
		f.Do("POST", "/v1/admin/actions", `{"agents":["FailingAgent"],"action":"open","reason":"x"}`).Want(200)
		return ""
	}
	gzipType := []string{"Content-Type", "application/gzip"}
	one, gateOpen := "/v1/admin/circuit_breakers/Unknown", []string{gateHeader, "1"}
	misdirected := routetest.Sample[*fixture]{Bad: routetest.Probe{Header: []string{"Host", "evil.example"}}}
	return map[string]routetest.Sample[*fixture]{
		"acquire":               {Bad: routetest.Probe{Body: `{"parent":7}`}},
		"report":                {Bad: routetest.Probe{Body: `{"outcome":"great"}`}},
		"renew":                 {Before: probing, Bad: routetest.Probe{}},
		"batch":                 {Bad: routetest.Probe{Body: `{"operations":[{}]}`}},
		"gate":                  {Good: routetest.Probe{Query: "?deny_status=403", Header: gateOpen}, Bad: routetest.Probe{Query: "?deny_status=200", Header: gateOpen}},
		"gateBelow":             {Good: routetest.Probe{Query: "?anything", Header: gateOpen}, Bad: routetest.Probe{}},
		"listCircuitBreakers":   {Before: known, Bad: routetest.Probe{Query: "?limit=0"}},
		"getSummary":            {Before: known, Bad: routetest.Probe{Query: "?nonsense=1"}},
		"explainCircuitBreaker": {Before: known, Bad: routetest.Probe{Path: one + "/explain"}},
		"getCircuitBreaker":     {Before: configured, Bad: routetest.Probe{Path: one}},
		"listEvents":            {Before: known, Bad: routetest.Probe{Path: one + "/events"}},
		"getHistory":            {Before: known, Good: routetest.Probe{Query: "?minutes=5"}, Bad: routetest.Probe{Query: "?minutes=0"}},
		"releaseCircuitBreaker": {Before: held, Bad: routetest.Probe{Path: one + "/release"}},
		"deleteCircuitBreaker":  {Before: known, Bad: routetest.Probe{Path: one}},
		"resetCircuitBreaker":   {Before: known, Bad: routetest.Probe{Body: `{"target_state":"OPEN"}`}},
		"openCircuitBreaker":    {Bad: routetest.Probe{Body: `{"timeout_seconds":-1}`}},
		"closeCircuitBreaker":   {Before: known, Bad: routetest.Probe{Path: one + "/close"}},
		"getConfig":             {Before: configured, Bad: routetest.Probe{Path: one + "/config"}},
		"putConfig":             {Bad: routetest.Probe{Body: `{"mode":"maybe"}`}},
		"deleteConfig":          {Before: configured, Good: routetest.Probe{Header: []string{"If-Match", "*"}}, Bad: routetest.Probe{Path: one + "/config"}},
		"getAgent":              {Before: known, Bad: routetest.Probe{Path: "/v1/admin/agents/Unknown"}},
		"putAgent":              {Bad: routetest.Probe{Body: `{"url":"x"}`}},
		"listQuarantine":        {Before: quarantined, Good: routetest.Probe{Query: "?agent_id=FailingAgent"}, Bad: routetest.Probe{Query: "?agent_id=a%20b"}},
		"listFleetEvents":       {Before: happened, Bad: routetest.Probe{Query: "?since=yesterday"}},
		"listAudit":             {Before: happened, Bad: routetest.Probe{Query: "?actor=a%20b"}},
		"getFleet":              {Before: stopped, Bad: routetest.Probe{Query: "?x=1"}},
		"putFleet":              {Before: stopped, Bad: routetest.Probe{Body: `{"action":"halt"}`}},
		"deleteFleet":           {Before: stopped, Bad: routetest.Probe{Header: []string{"If-Match", `"other"`}}},
		"postAction":            {Before: acting, Bad: routetest.Probe{Body: `{"agents":["a b"],"action":"reset","reason":"x"}`}},
		"getAction":             {Before: acted, Good: routetest.Probe{Path: "/v1/admin/actions/0000000000000001"}, Bad: routetest.Probe{Path: "/v1/admin/actions/ffffffffffffffff"}},
		"getBackup":             {Bad: routetest.Probe{Query: "?x=1"}},
		"restoreBackup":         {Before: func(f *fixture) string { return f.backup("circuit_breaker") }, Good: routetest.Probe{Header: gzipType}, Bad: routetest.Probe{Body: "hello", Header: gzipType}},
		"listWebhooks":          {Bad: routetest.Probe{Query: "?x=1"}},
		"listTokens":            {Bad: routetest.Probe{Query: "?x=1"}},
		"listFindings":          {Before: faulty, Good: routetest.Probe{Query: "?deep=1"}, Bad: routetest.Probe{Query: "?deep=2"}},
		"listReplicas":          {Before: stopped, Bad: routetest.Probe{Query: "?x=1"}},
		"live":                  misdirected, "ready": misdirected, "whoami": misdirected, "openSession": misdirected, "closeSession": misdirected, "health": misdirected, "healthChecks": misdirected, "listChecks": misdirected,
		"listCascades": {Bad: routetest.Probe{Query: "?last=yesterday"}},
		"listLatency":  {Before: known, Good: routetest.Probe{Query: "?agent=FailingAgent&threshold_ms=0.5&sort=average"}, Bad: routetest.Probe{Query: "?threshold_ms=-1"}},
		"metrics":      misdirected, "openapi": misdirected, "docs": misdirected,
	}
}

func TestAPI_AnswersAsDocumented(t *testing.T) {
	t.Parallel()
	routetest.AnswersAsDocumented(t, func(t testing.TB) (*fixture, *routetest.Client) {
		f := newFixture(t, func(o *Options) { o.LoopbackOnly = true })
		return f, f.Client
	}, samples(), "streamEvents")
}

func TestAPI_DocumentsABreakersFields(t *testing.T) {
	t.Parallel()
	doc := newFixture(t).Do("GET", "/openapi.json", "").Want(200)
	for _, field := range []string{"agent_id", "opened_at", "failure_count", "failure_rate", "timeout_until", "hold", "probes", "policy", "epoch"} {
		if doc.At("components.schemas.BreakerDetail.properties."+field) == nil {
			t.Errorf("BreakerDetail lacks %s: %.200v", field, doc.At("components.schemas.BreakerDetail"))
		}
	}
}

func TestAPI_KeepsWhatIsPromised(t *testing.T) {
	t.Parallel()
	newFixture(t).Promised(t)
}
