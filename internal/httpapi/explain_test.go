package httpapi

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// explained is an answer of explain.
type explained struct{ routetest.Got }

func (f *fixture) explain(agent string) explained {
	f.Helper()
	return explained{f.Do("GET", listPath+"/"+agent+"/explain", "").Want(200)}
}

// want checks that a part of the answer has a clause with this code and these values, and a sentence.
func (x explained) want(t *testing.T, part, code string, values ...string) {
	t.Helper()
	all, _ := x.JSON[part].([]any)
	i := slices.IndexFunc(all, func(c any) bool { m, _ := c.(map[string]any); return m["code"] == code })
	if i < 0 {
		t.Errorf("%s lacks %s: %s", part, code, x.Text)
		return
	}
	for _, v := range values {
		x.Want(200, fmt.Sprintf("%s.%d.values.%s", part, i, v))
	}
	sentence, _ := x.At(fmt.Sprintf("%s.%d.text", part, i)).(string)
	rule, _ := x.At(fmt.Sprintf("%s.%d.clause", part, i)).(string)
	if !strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "%!") || !strings.HasPrefix(rule, "B") {
		t.Errorf("%s: %s %q", code, rule, sentence)
	}
}

// configure sets an agent's override.
func (f *fixture) configure(agent, text string) {
	f.Helper()
	f.Do("PUT", listPath+"/"+agent+"/config", text).Want(201)
}

// report reports outcomes without a permit, each an outcome and what else the body has.
func (f *fixture) report(agent string, outcomes ...string) {
	f.Helper()
	for _, o := range outcomes {
		f.Do("POST", "/v1/circuit_breakers/"+agent+"/report", `{"outcome":`+o+`}`).Want(200)
	}
}

func TestExplain_EveryCause(t *testing.T) {
	t.Parallel()
	f := newFixture(t)

	f.fail("run", 5)
	x := f.explain("run")
	x.want(t, "because", "consecutive_failures", "failures=5", "consecutive_failures=5", "failure_threshold=5", `opened_at="2026-02-11T09:00:00Z"`)
	x.want(t, "because", "wait", "wait_seconds=60", "base_seconds=60", "jitter_seconds=0", "upstream_seconds=0", "reopens=0")
	x.want(t, "next", "half_open_at", `at="2026-02-11T09:01:00Z"`, "in_seconds=60", "probes=3", "successes_needed=3")
	x.want(t, "next", "next_wait", "base_seconds=60", "jitter_seconds_at_most=0")

	f.configure("rate", `{"failure_threshold":0,"failure_rate_threshold":0.5,"minimum_calls":4}`)
	f.report("rate", `"success"`, `"failure"`, `"success"`, `"failure"`)
	f.explain("rate").want(t, "because", "failure_rate", "failure_rate=0.5", "failure_rate_threshold=0.5", "failures=2", "calls=4", "minimum_calls=4")

	f.configure("slow", `{"slow_call_duration_seconds":1,"slow_call_rate_threshold":0.5,"minimum_calls":2}`)
	f.report("slow", `"success","duration_ms":2000`, `"success","duration_ms":10`)
	f.explain("slow").want(t, "because", "slow_rate", "slow_rate=0.5", "slow=1", "calls=2", "slow_call_rate_threshold=0.5", "slow_call_duration_seconds=1")

	f.configure("upstream", `{"retry_after":"open"}`)
	f.report("upstream", `"failure","retry_after_seconds":300`)
	x = f.explain("upstream")
	x.want(t, "because", "upstream_retry_after", `retry_after="open"`)
	x.want(t, "because", "wait", "wait_seconds=300", "base_seconds=60", "upstream_seconds=300")

	f.report("extended", slices.Repeat([]string{`"failure","retry_after_seconds":200`}, 5)...)
	x = f.explain("extended")
	x.want(t, "because", "consecutive_failures")
	x.want(t, "because", "wait", "wait_seconds=200", "upstream_seconds=200")
}

func TestExplain_ProbesAndReopenings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.configure("a", `{"timeout_multiplier":2,"timeout_jitter":0.5,"recovery_ramp_seconds":30}`)
	f.fail("a", 5)
	f.advance(90 * time.Second)
	permit := func() string {
		p, _ := f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(200).JSON["permit"].(string)
		return p
	}
	first, second, third := permit(), permit(), permit()
	x := f.explain("a")
	x.want(t, "because", "consecutive_failures")
	x.want(t, "because", "round", "max=3", "need=3", "succeeded=0", "failed=0", "live=3")
	x.want(t, "next", "closes", "successes_needed=3")
	x.want(t, "next", "reopens", "failures_needed=1")
	x.want(t, "next", "probes_busy", "in_seconds=60")
	x.want(t, "next", "next_wait", "base_seconds=120", "jitter_seconds_at_most=60")
	x.want(t, "next", "ramp", "recovery_ramp_seconds=30", "ramp_floor=0.1")
	f.report("a", `"success","permit":"`+first+`"`)
	f.explain("a").want(t, "next", "closes", "successes_needed=2")
	f.report("a", `"failure","permit":"`+second+`"`)
	x = f.explain("a")
	x.want(t, "because", "probe_failed", "failures=1", "calls=2")
	x.want(t, "because", "first_cause", `cause="consecutive_failures"`)
	x.want(t, "because", "reopens", "reopens=1")
	x.want(t, "because", "wait", "base_seconds=120", "reopens=1", "timeout_multiplier=2")
	number := func(name string) float64 {
		n, _ := x.At("because.3.values." + name + "_seconds").(float64)
		return n
	}
	if base, jitter, all := number("base"), number("jitter"), number("wait"); math.Abs(base+jitter-all) > 1e-6 {
		t.Errorf("%v + %v is not %v", base, jitter, all)
	}
	x.want(t, "next", "next_wait", "base_seconds=240")
	_ = third

	f.advance(200 * time.Second)
	for range 3 {
		f.report("a", `"success","permit":"`+permit()+`"`)
	}
	f.advance(15 * time.Second)
	x = f.explain("a")
	x.want(t, "because", "ramping", "share=0.55")
	x.want(t, "next", "ramp_ends", "in_seconds=15")
}

func TestExplain_WhatOperatorsDid(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	at := listPath + "/a"
	f.Do("POST", at+"/open", `{"reason":"flooding","timeout_seconds":600,"protected":true,"actor":"alice"}`).Want(200)
	x := f.explain("a")
	x.want(t, "because", "hold_open", `actor="alice"`, `reason="flooding"`, "protected=true", `since="2026-02-11T09:00:00Z"`)
	x.want(t, "next", "hold_ends", `at="2026-02-11T09:10:00Z"`, "in_seconds=600")
	f.Do("POST", at+"/close", `{"reason":"known","force":true,"actor":"bob"}`).Want(200)
	f.fail("a", 9)
	x = f.explain("a")
	x.want(t, "because", "hold_closed", `actor="bob"`, `reason="known"`)
	x.want(t, "not_tripping", "hold_closed", `reason="known"`)
	x.want(t, "next", "hold_endless")
	f.Do("POST", at+"/reset", `{"target_state":"HALF_OPEN","reason":"try it"}`).Want(200)
	x = f.explain("a")
	x.want(t, "because", "operator", `reason="try it"`)
	x.want(t, "next", "probes_free", "free=3")
	f.Do("PUT", "/v1/admin/fleet", `{"action":"shed","percentage":20,"until_seconds":60,"reason":"load"}`).Want(200)
	x = f.explain("a")
	x.want(t, "because", "fleet_gate", `action="shed"`, "share=0.8", `reason="load"`)
	x.want(t, "next", "fleet_gate_ends", `at="2026-02-11T09:01:00Z"`)
}

func TestExplain_EveryReasonNotToTrip(t *testing.T) {
	t.Parallel()
	f := newFixture(t)

	f.fail("few", 4)
	x := f.explain("few")
	x.want(t, "because", "closed", "calls=4", "failures=4", "consecutive_failures=4", "window_seconds=120")
	x.want(t, "not_tripping", "failure_threshold", "consecutive_failures=4", "failure_threshold=5")
	x.want(t, "not_tripping", "minimum_calls", `threshold="failure_rate_threshold"`, "rate=1", "calls=4", "minimum_calls=10")
	x.want(t, "not_tripping", "slow_call_rate_threshold_off")
	x.want(t, "next", "opens_by_run", "failures_needed=1")

	for range 10 {
		f.report("below", `"success"`)
	}
	f.report("below", `"failure"`)
	f.explain("below").want(t, "not_tripping", "failure_rate_threshold", "rate=0.090909", "calls=11", "of=0.5")

	f.configure("off", `{"failure_threshold":0,"failure_rate_threshold":0}`)
	f.fail("off", 50)
	x = f.explain("off")
	x.want(t, "not_tripping", "failure_threshold_off")
	x.want(t, "not_tripping", "failure_rate_threshold_off")
	x.want(t, "not_tripping", "slow_call_rate_threshold_off")

	f.configure("observed", `{"mode":"observe"}`)
	f.fail("observed", 5)
	x = f.explain("observed")
	x.want(t, "not_tripping", "observe")
	x.want(t, "because", "consecutive_failures")

	f.configure("disabled", `{"enabled":false}`)
	f.fail("disabled", 50)
	f.explain("disabled").want(t, "not_tripping", "disabled", `origin="redis"`)

	f.report("ignored", slices.Repeat([]string{`"ignored"`}, 20)...)
	f.explain("ignored").want(t, "not_tripping", "ignored_outcomes", `last_seen="2026-02-11T09:00:00Z"`)

	f.fleet.heard = []redisdocs.Heard{heard("a", "", time.Second, true), heard("b", "", time.Second, true), heard("gone", "", time.Hour, true)}
	f.configure("alone", `{"minimum_reporters":3}`)
	f.report("alone", slices.Repeat([]string{`"failure","reporter":"replica-1"`}, 4)...)
	f.explain("alone").want(t, "not_tripping", "minimum_reporters", "counted=1", "wanted=2", "minimum_reporters=3", `reporters.replica-1="2026-02-11T09:00:00Z"`)

	f.fail("lowered", 4)
	f.configure("lowered", `{"failure_threshold":3}`)
	f.explain("lowered").want(t, "next", "opens_with_next_failure")
	f.configure("few", `{"minimum_calls":2}`)
	f.explain("few").want(t, "next", "opens_with_next_record")

	f.records.off = true
	f.explain("few").want(t, "not_tripping", "global_switch_off")
}

func TestExplain_WhoFailsAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.configure("a", `{"failure_threshold":0,"minimum_calls":10}`)
	f.report("a", slices.Concat(slices.Repeat([]string{`"success"`}, 5), slices.Repeat([]string{`"failure"`}, 5))...)
	epoch, _ := f.Do("GET", listPath+"/a", "").Want(200).JSON["epoch"].(string)
	say := func(seq int, agent, epoch, reporter string) {
		f.records.happen(fmt.Sprintf("%d-%d", f.records.NowMs.Load()+5, seq), agent,
			fmt.Sprintf("%d evidence > %s %s 5/6/0/0 consecutive_failures", f.records.NowMs.Load(), epoch, reporter))
	}
	say(0, "other", epoch, "replica-8")
	say(1, "a", "00000000000000a1", "replica-9")
	say(2, "a", epoch, "replica-2")
	x := f.explain("a")
	x.want(t, "because", "reported_by", "reporters.replica-2.failures=5", "reporters.replica-2.calls=6", "reporters.replica-9=null")
	x.want(t, "because", "fails_alone", `reporter="replica-2"`)
	say(3, "a", epoch, "replica-3")
	if g := f.explain("a"); strings.Contains(g.Text, "fails_alone") {
		t.Error(g.Text)
	}
}

func TestExplain_WithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.records.TakeDown(true)
	x := f.explain("a")
	x.Want(200, "degraded=true")
	x.want(t, "because", "consecutive_failures")
}

func TestExplain_RefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("GET", listPath+"/typo/explain", "").WantProblem(404, problem.AgentUnknown)
	f.Do("GET", listPath+"/typo/explain?verbose=1", "").WantProblem(422, problem.InvalidValue)
}
