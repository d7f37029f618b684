package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func TestReport_CountsByItsPermit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := f.Do("POST", "/v1/circuit_breakers/FailingAgent/acquire", "").
		Want(200, "allowed=true", `state="CLOSED"`, "degraded=false", "lease_seconds=0")
	permit, _ := g.At("permit").(string)
	f.Do("POST", "/v1/circuit_breakers/FailingAgent/report",
		`{"permit":"`+permit+`","outcome":"failure","duration_ms":12.5,"error":"boom\u0000\nline two","retry_after_seconds":1.5,"reporter":"me"}`).
		Want(200, `state="CLOSED"`, "counted=true", "why=null")
	f.Do("POST", "/v1/circuit_breakers/Other/report", `{"permit":"`+permit+`","outcome":"failure"}`).Want(200, "counted=false", `why="foreign"`)
	f.Do("POST", "/v1/circuit_breakers/Other/renew", `{"permit":"`+permit+`"}`).WantProblem(409, problem.LeaseLost)
	f.fail("FailingAgent", 4)
	g = f.Do("POST", "/v1/circuit_breakers/FailingAgent/acquire", `{"parent":"v1.x"}`).WantProblem(429, problem.CircuitBreakerOpen).
		Want(429, `agent="FailingAgent"`, `reason="open"`, "retry_after_seconds=60", `state="OPEN"`)
	if g.Header.Get("X-Circuit-Breaker-State") != "OPEN" || g.Header.Get("Retry-After") != "60" {
		t.Error(g.Header)
	}
	f.Do("POST", "/v1/circuit_breakers/FailingAgent/report", `{"permit":"`+permit+`","outcome":"success"}`).
		Want(200, `state="OPEN"`, "counted=false", `why="late"`)
}

func TestAcquire_LeasesProbesThatAreRenewedOrRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.advance(59*time.Second + 500*time.Millisecond)
	f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(429, "retry_after_seconds=1")
	f.advance(time.Second)
	var permits []string
	for range 3 {
		g := f.Do("POST", "/v1/circuit_breakers/a/acquire", "{}").Want(200, `state="HALF_OPEN"`, "lease_seconds=60")
		permits = append(permits, g.At("permit").(string))
	}
	g := f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(429, `reason="probes_busy"`)
	if g.Header.Get("X-Circuit-Breaker-State") != "HALF_OPEN" || g.Header.Get("Retry-After") != "60" {
		t.Error(g.Header)
	}
	f.advance(30 * time.Second)
	f.Do("POST", "/v1/circuit_breakers/a/renew", `{"permit":"`+permits[0]+`"}`).Want(200, "lease_seconds=60")
	f.Do("PUT", "/v1/admin/circuit_breakers/a/config", `{"half_open_success_threshold":0}`).Want(201)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "policy.half_open_success_threshold.value=3", "probes.max=3", "probes.need=3", "probes.live=3", "probes.succeeded=0",
		"timeout_until=null", `opened_at="2026-02-11T09:00:00Z"`, "failure_count=5", "failure_rate=1")
	f.advance(40 * time.Second)
	f.Do("POST", "/v1/circuit_breakers/a/renew", `{"permit":"`+permits[1]+`"}`).WantProblem(409, problem.LeaseLost)
	f.Do("POST", "/v1/circuit_breakers/a/report", `{"permit":"`+permits[0]+`","outcome":"failure"}`).Want(200, `state="OPEN"`, "counted=true")
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "reopens=1", `reason="probe_failed"`, "failure_count=1", "probes=null")
}

func TestDetail_TransitionThatIsDueHasNoEpoch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	if epoch, _ := f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `state="OPEN"`).At("epoch").(string); len(epoch) != 16 {
		t.Errorf("epoch %q", epoch)
	}
	f.advance(time.Minute)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `state="HALF_OPEN"`, "epoch=null")
	f.Do("GET", "/v1/admin/circuit_breakers/a/events", "").Want(200, `events.0.event="opened"`, "events.0.actor=null")
}

func TestReport_WithAnIdempotencyKeyCountsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"failure"}`, "Idempotency-Key", "k 1").Want(200, "counted=true")
	f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"failure"}`, "Idempotency-Key", "k 1").Want(200, "counted=false", `why="duplicate"`)
	f.Do("POST", "/v1/batch", `{"operations":[{"op":"report","agent":"a","outcome":"failure","idempotency_key":"k 1"}]}`).
		Want(200, "results.0.counted=false")
	f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"failure"}`, "Idempotency-Key", strings.Repeat("k", 201)).WantProblem(422, problem.InvalidValue)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "consecutive_failures=1")
}

func TestAcquire_InModeObserveSaysWhatItWouldRefuse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("PUT", "/v1/admin/circuit_breakers/a/config", `{"mode":"observe"}`).Want(201)
	f.fail("a", 5)
	f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(200, "allowed=true", `would="open"`)
}

func TestBatch_KeepsTheOrderOfAnAgentAndOfResults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ops := []string{
		`{"op":"acquire","agent":"b"}`,
		`{"op":"report","agent":"a","outcome":"failure"}`, `{"op":"report","agent":"a","outcome":"failure"}`,
		`{"op":"report","agent":"a","outcome":"failure"}`, `{"op":"report","agent":"a","outcome":"failure"}`,
		`{"op":"acquire","agent":"a"}`, `{"op":"report","agent":"a","outcome":"failure"}`, `{"op":"acquire","agent":"a"}`,
		`{"op":"acquire","agent":"bad name\u0000"}`, `{"op":"renew","agent":"a","permit":"x"}`, `{"op":"report","agent":"a"}`,
		`{"op":"acquire","agent":"a","outcome":"failure"}`, `{"op":"report","agent":"a","outcome":"success","parent":"p"}`,
		`{"op":"report","agent":"a","outcome":"success","idempotency_key":"\u200b"}`,
	}
	g := f.Do("POST", "/v1/batch", `{"operations":[`+strings.Join(ops, ",")+`]}`).Want(200)
	results, _ := g.JSON["results"].([]any)
	want := []float64{200, 200, 200, 200, 200, 200, 200, 429, 400, 422, 422, 422, 422, 422}
	if len(results) != len(want) {
		t.Fatal(g.Text)
	}
	for i, w := range want {
		r, _ := results[i].(map[string]any)
		if r["status"] != w {
			t.Errorf("result %d: %v, want status %v", i, r, w)
		}
	}
	g.Want(200, "results.0.allowed=true", `results.1.counted=true`, `results.7.code="circuit_breaker_open"`, "results.7.retry_after_seconds=60",
		`results.8.code="invalid_agent_name"`, `results.9.code="invalid_permit"`)
	f.Do("POST", "/v1/batch", `{"operations":[]}`).Want(200, "results=[]")
	f.Do("POST", "/v1/batch", `{"operations":[`+strings.Repeat(`{"op":"acquire","agent":"a"},`, 256)+`{"op":"acquire","agent":"a"}]}`).
		WantProblem(422, problem.InvalidValue)
}

func TestForce_HoldsResetsAndTheirEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := "/v1/admin/circuit_breakers/8f3a2b1c"
	f.Do("POST", at+"/open", `{"reason":"flooding_quarantine","timeout_seconds":3600}`, "X-Actor", "alice").
		Want(200, `status="opened"`, `agent_id="8f3a2b1c"`, `state="OPEN"`)
	f.Do("GET", at, "").Want(200, `agent_id="8f3a2b1c"`, `state="OPEN"`, `opened_at="2026-02-11T09:00:00Z"`, `reason="flooding_quarantine"`,
		`timeout_until="2026-02-11T10:00:00Z"`, `hold.kind="OPEN"`, `hold.actor="alice"`, `hold.until="2026-02-11T10:00:00Z"`, "hold.protected=false",
		`policy.failure_threshold.value=5`, `policy.failure_threshold.origin="default"`)
	f.Do("POST", "/v1/circuit_breakers/8f3a2b1c/acquire", "").Want(429, `reason="forced_open"`, "retry_after_seconds=3600")
	f.Do("POST", at+"/reset", `{"target_state":"HALF_OPEN","reason":"issue_resolved"}`).
		Want(200, `status="reset"`, `agent_id="8f3a2b1c"`, `state="HALF_OPEN"`)
	f.Do("POST", at+"/reset", `{"target_state":"closed","gradual_seconds":60,"actor":"bob"}`).Want(200, `state="CLOSED"`)
	f.Do("GET", at, "").Want(200, `ramp.until="2026-02-11T09:01:00Z"`, "hold=null", "reason=null")
	f.Do("POST", at+"/close", `{"reason":"`+strings.Repeat("long ", 30)+`"}`).Want(200, `status="closed"`, `state="CLOSED"`)
	f.Do("GET", at, "").Want(200, `hold.kind="CLOSED"`, "hold.until=null", "timeout_until=null", `reason="`+strings.Repeat("long ", 30)+`"`)
	f.Do("POST", at+"/open", `{"protected":true,"reason":"b","force":true}`).Want(200)
	f.Do("POST", at+"/close", `{"reason":"c"}`).WantProblem(409, problem.HoldProtected)
	f.Do("DELETE", at, "").WantProblem(409, problem.HoldProtected)
	f.Do("POST", at+"/reset", `{"target_state":"HALF_OPEN","reason":"timeout_expired","force":true}`).Want(200, `state="HALF_OPEN"`)
	f.Do("GET", at+"/events", "").Want(200, `events.0.event="manual_reset"`, `events.0.from="OPEN"`, `events.0.to="HALF_OPEN"`,
		`events.0.reason="timeout_expired"`, `events.0.actor="api"`, `events.1.event="manual_open"`, `events.3.actor="bob"`,
		`events.5.actor="alice"`, `events.5.at="2026-02-11T09:00:00Z"`)
	f.Do("DELETE", at+"?force=true", "").Want(204)
	f.Do("GET", at, "").WantProblem(404, problem.AgentUnknown)
}

func TestForce_EndlessHoldHasNoEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", "/v1/admin/circuit_breakers/a/open", `{"reason":"manual"}`).Want(200, "endless=true")
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "timeout_until=null", `reason="manual"`, "hold.until=null")
}

func TestAdmin_UnknownAgentIsNotMadeByATypo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, r := range [][3]string{
		{"GET", "/v1/admin/circuit_breakers/typo", ""},
		{"GET", "/v1/admin/circuit_breakers/typo/events", ""},
		{"GET", "/v1/admin/circuit_breakers/typo/config", ""},
		{"DELETE", "/v1/admin/circuit_breakers/typo/config", ""},
		{"POST", "/v1/admin/circuit_breakers/typo/reset", `{"target_state":"CLOSED"}`},
		{"POST", "/v1/admin/circuit_breakers/typo/close", `{"reason":"x"}`},
		{"DELETE", "/v1/admin/circuit_breakers/typo", ""},
		{"GET", "/v1/admin/agents/typo", ""},
		{"GET", "/v1/admin/quarantine?agent_id=typo", ""},
	} {
		f.Do(r[0], r[1], r[2]).WantProblem(404, problem.AgentUnknown)
	}
	if keys := f.records.Keys(); len(keys) > 0 {
		t.Error(keys)
	}
}

func TestConfig_IsGuardedByItsETag(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := "/v1/admin/circuit_breakers/a/config"
	first := f.Do("PUT", at, `{"failure_threshold":2,"timeout_seconds":1.5}`, "If-None-Match", "*").Want(201, "failure_threshold=2", "timeout_seconds=1.5").Header.Get("ETag")
	f.Do("PUT", at, `{}`, "If-None-Match", "*").WantProblem(412, problem.PreconditionFailed)
	f.Do("PUT", at, `{}`).WantProblem(428, problem.PreconditionRequired)
	f.Do("PUT", at, `{}`, "If-Match", `"nonsense"`).WantProblem(412, problem.PreconditionFailed)
	if etag := f.Do("GET", at, "").Want(200, "failure_threshold=2").Header.Get("ETag"); etag != first || etag == "" {
		t.Errorf("ETag %q, then %q", first, etag)
	}
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "policy.failure_threshold.value=2", `policy.failure_threshold.origin="redis"`)
	f.fail("a", 2)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `state="OPEN"`)
	second := f.Do("PUT", at, `{"failure_threshold":3}`, "If-Match", `"x", `+first).Want(200).Header.Get("ETag")
	f.Do("DELETE", at, "").WantProblem(428, problem.PreconditionRequired)
	f.Do("DELETE", at, "", "If-Match", first).WantProblem(412, problem.PreconditionFailed)
	f.Do("DELETE", at, "", "If-Match", second).Want(204)
	f.Do("DELETE", at, "", "If-Match", "*").WantProblem(412, problem.PreconditionFailed)
	f.Do("DELETE", at, "").WantProblem(404, problem.ConfigAbsent)
	f.Do("GET", at, "").WantProblem(404, problem.ConfigAbsent)
	f.Do("PUT", at, `{}`, "If-Match", second).WantProblem(412, problem.PreconditionFailed)
}

func TestConfig_RefusesWhatNoPolicyMayHave(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := "/v1/admin/circuit_breakers/a/config"
	f.Do("PUT", at, `{"failure_threshold":-1,"mode":"maybe","nonsense":1,"timeout_seconds":1e300}`).WantProblem(422, problem.InvalidValue).
		Want(422, `errors.0.location="body.failure_threshold"`, `errors.1.location="body.mode"`, `errors.2.location="body.nonsense"`)
	f.Do("PUT", at, `{"timeout_seconds":7200}`).WantProblem(422, problem.InvalidValue) // above timeout_max_seconds of another layer
	f.Do("PUT", at, `[]`).WantProblem(422, problem.InvalidValue)
	f.Do("PUT", at, ``).WantProblem(400, problem.BodyRequired)
	if keys := f.records.Keys(); len(keys) > 0 {
		t.Error(keys)
	}
	if err := f.records.Put(overrides, "a", "by hand"); err != nil {
		t.Fatal(err)
	}
	if g := f.Do("GET", at, "").WantProblem(409, problem.ConfigInvalid); g.Header.Get("ETag") == "" {
		t.Error("no way to replace it")
	}
}

// A report's wait is an upstream's: no more of it counts than the policy says, by which way it may come [B22].
func TestReport_UpstreamWaitIsCapped(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const waiting = `"outcome":"failure","retry_after_seconds":86400`
	for agent, report := range map[string]func(agent string){
		"bare": func(agent string) { f.Do("POST", "/v1/circuit_breakers/"+agent+"/report", `{`+waiting+`}`).Want(200) },
		"batch": func(agent string) {
			f.Do("POST", "/v1/batch", `{"operations":[{"op":"report","agent":"`+agent+`",`+waiting+`}]}`).Want(200)
		},
		"permit": func(agent string) {
			permit := f.Do("POST", "/v1/circuit_breakers/"+agent+"/acquire", "").Want(200).At("permit")
			f.Do("POST", "/v1/circuit_breakers/"+agent+"/report", fmt.Sprintf(`{"permit":%q,%s}`, permit, waiting)).Want(200, "counted=true")
		},
	} {
		for range 5 {
			report(agent)
		}
		f.Do("POST", "/v1/circuit_breakers/"+agent+"/acquire", "").Want(429, "retry_after_seconds=900")
	}
}

func TestAgents_ProfileAndQuarantine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := "/v1/admin/agents/a"
	g := f.Do("PUT", at, `{"contact":"team-x <x@example.org>","url":"https://example.org/a","labels":{"priority":"low"}}`).
		Want(201, `contact="team-x <x@example.org>"`, `labels.priority="low"`, `state="CLOSED"`)
	f.Do("PUT", at, `{}`).WantProblem(428, problem.PreconditionRequired)
	g.Want(201, "timeout_seconds=null", "classify=null")
	g = f.Do("PUT", at, `{"timeout_seconds":0.5,"classify":"mcp"}`, "If-Match", g.Header.Get("ETag")).Want(200, "timeout_seconds=0.5", `classify="mcp"`)
	f.Do("PUT", at, `{"contact":"y"}`, "If-Match", g.Header.Get("ETag")).Want(200, `contact="y"`, "url=null", "labels={}", "timeout_seconds=null")
	f.Do("GET", at, "").Want(200, `contact="y"`, `last_seen="2026-02-11T09:00:00Z"`)
	for _, bad := range []string{
		`{"contact":"a\nb"}`, `{"url":"javascript:alert(1)"}`, `{"labels":{"a b":"c"}}`, `{"labels":{"a":"\u0000"}}`, `{"labels":[]}`,
		`{"timeout_seconds":0}`, `{"timeout_seconds":0.0009}`, `{"timeout_seconds":0.0015}`, `{"url":"http://u:p@h"}`, `{"timeout_seconds":3600.1}`, `{"timeout_seconds":"1"}`, `{"timeout_seconds":-1}`,
		`{"classify":"guess"}`, `{"classify":""}`, `{"classify":1}`,
	} {
		f.Do("PUT", "/v1/admin/agents/b", bad).WantProblem(422, problem.InvalidValue)
	}
	f.fail("a", 1)
	f.records.items["a"] = []string{`{"n":3}`, `not json`, `{"n":2}`, `{"n":1}`}
	f.Do("GET", "/v1/admin/quarantine?agent_id=a", "").Want(200, `items=[{"n":3},{"n":2},{"n":1}]`)
	f.Do("GET", "/v1/admin/quarantine?agent_id=a&limit=1", "").Want(200, `items=[{"n":3}]`)
	f.Do("GET", "/v1/admin/quarantine?agent_id=a&limit=51", "").WantProblem(422, problem.InvalidValue)
	f.Do("GET", "/v1/admin/quarantine", "").WantProblem(400, problem.InvalidAgentName)
}

// PUT sets the profile as a whole, so it has to know every field that the bridge reads.
func TestAgents_ProfileSaysHowCallsCount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := "/v1/admin/agents/a"
	f.fail("a", 1)
	g := f.Do("PUT", at, `{"classify":"grpc","classify_observe":"auto","failure_statuses":[401,"500-599"],"ignored_statuses":[404],`+
		`"first_token_timeout_seconds":0.3,"idle_timeout_seconds":0.5,"count":{"path_prefixes":["/v1/"]}}`).
		Want(201, `classify="grpc"`, `classify_observe="auto"`, `failure_statuses=[401,"500-599"]`, "ignored_statuses=[404]", "first_token_timeout_seconds=0.3",
			"idle_timeout_seconds=0.5", `count.path_prefixes=["/v1/"]`, "count.methods=null")
	f.Do("PUT", at, `{"contact":"y"}`, "If-Match", g.Header.Get("ETag")).Want(200, "classify=null", "failure_statuses=null", "count=null")
	for _, c := range breakerhttp.BodyClassifiers() {
		f.Do("PUT", at, `{"classify":"`+string(c)+`"}`, "If-Match", "*").Want(200, `classify="`+string(c)+`"`)
	}
	for _, bad := range []string{
		`{"classify_observe":"guess"}`, `{"classify_observe":""}`, `{"failure_statuses":["x"]}`, `{"failure_statuses":[null]}`, `{"failure_statuses":[401.5]}`,
		`{"failure_statuses":401}`, `{"failure_statuses":["500-599"],"ignored_statuses":[501]}`, `{"first_token_timeout_seconds":0}`, `{"idle_timeout_seconds":3601}`,
		`{"idle_timeout_seconds":-1}`, `{"count":{}}`, `{"count":{"methods":[]}}`, `{"count":{"methods":["get"]}}`, `{"count":{"methods":[],"path_prefixes":["/"]}}`,
		`{"count":{"nonsense":1}}`, `{"count":[]}`,
	} {
		f.Do("PUT", "/v1/admin/agents/b", bad).WantProblem(422, problem.InvalidValue)
	}
}

// Where the profile is silent, the registry's file speaks: it is where most contacts stand.
func TestAgents_FileSaysWhatTheProfileLeavesOpen(t *testing.T) {
	t.Parallel()
	filed, err := registry.ParseAgent("a", []byte(`{"contact":"filed","url":"http://a.internal","labels":{"team":"x"},"timeout_seconds":2.5,"classify":"mcp",`+
		`"classify_observe":"auto","failure_statuses":[401],"ignored_statuses":[404],"first_token_timeout_seconds":2,"idle_timeout_seconds":5,"count":{"methods":["POST"]}}`), breaker.DefaultPolicy(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(o *Options) {
		o.InFile = func(agent string) (registry.Agent, bool) { return filed, agent == "a" }
	})
	f.fail("a", 1)
	f.fail("b", 1)
	at := "/v1/admin/agents/a"
	f.Do("GET", at, "").Want(200, `contact="filed"`, `url="http://a.internal"`, `labels.team="x"`, "timeout_seconds=2.5", `classify="mcp"`, "in_file=true",
		`classify_observe="auto"`, "failure_statuses=[401]", "ignored_statuses=[404]", "first_token_timeout_seconds=2", "idle_timeout_seconds=5", `count.methods=["POST"]`)
	f.Do("PUT", at, `{"contact":"own","classify":"status","failure_statuses":[403],"count":{"path_prefixes":["/"]}}`).Want(201, `contact="own"`, `url="http://a.internal"`,
		`classify="status"`, "in_file=true", `classify_observe="auto"`, "failure_statuses=[403]", "ignored_statuses=[404]", `count.path_prefixes=["/"]`, "count.methods=null")
	f.Do("GET", "/v1/admin/agents/b", "").Want(200, "contact=null", "labels={}", "in_file=false")
}

func TestDetail_FiguresAreOfTheWindowOrTheEvidence(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 3)
	f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"success"}`).Want(200)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "failure_count=3", "failure_rate=0.75", "consecutive_failures=0", "totals.failures=3",
		"totals.successes=1", "opened_at=null", "reason=null")
	f.advance(3 * time.Minute)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "failure_count=0", "failure_rate=0")
	f.fail("a", 5)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "failure_count=5", "failure_rate=1", `reason="consecutive_failures"`,
		`timeout_until="2026-02-11T09:04:00Z"`)
}

// barrier is a store that answers when so many calls wait.
type barrier struct {
	*routetest.Store

	waiting atomic.Int32
	tooMany atomic.Bool
	full    chan struct{}
	once    sync.Once
}

func (b *barrier) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	n := b.waiting.Add(1)
	defer b.waiting.Add(-1)
	if n > batchWorkers {
		b.tooMany.Store(true)
	}
	if n == batchWorkers {
		b.once.Do(func() { close(b.full) })
	}
	select {
	case <-b.full:
		return b.Store.Apply(ctx, agent, p, op)
	case <-time.After(20 * time.Second):
		return machine.Result{}, errors.New("the others did not come")
	}
}

func TestBatch_AgentsWaitForTheStoreTogether(t *testing.T) {
	t.Parallel()
	store := &barrier{Store: routetest.NewStore(), full: make(chan struct{})}
	f := newFixture(t, func(o *Options) {
		var err error
		if o.Manager, err = breaker.NewManager(breaker.Options{Store: store, Logger: o.Logger}); err != nil {
			t.Fatal(err)
		}
	})
	var ops []string
	for i := range 2 * batchWorkers {
		ops = append(ops, fmt.Sprintf(`{"op":"acquire","agent":"a%d"}`, i))
	}
	g := f.Do("POST", "/v1/batch", `{"operations":[`+strings.Join(ops, ",")+`]}`).Want(200)
	if n := strings.Count(g.Text, `"allowed":true`); n != len(ops) || store.tooMany.Load() {
		t.Errorf("%d allowed, too many at once: %v: %.500s", n, store.tooMany.Load(), g.Text)
	}
}
