package httpapi

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// The causes of an opening that the machine itself finds, and that of an external edit.
const (
	byRun      = "consecutive_failures"
	byRate     = "failure_rate"
	bySlow     = "slow_rate"
	byProbe    = "probe_failed"
	byUpstream = "upstream_retry_after"
	byHand     = "hand_edit"
)

func machineCauses() []string { return []string{byRun, byRate, bySlow, byProbe, byUpstream, byHand} }

// explainReply says why a breaker is as it is.
type explainReply struct {
	AgentID     string         `json:"agent_id"`
	State       string         `json:"state"        enum:"CLOSED,OPEN,HALF_OPEN"`
	NowMs       int64          `json:"now_ms"       doc:"Redis' clock, ms since 1970."`
	Degraded    bool           `json:"degraded"     doc:"From this replica's memory, because Redis is down."`
	Because     []reasonClause `json:"because"      doc:"What led here."                             nullable:"false"`
	NotTripping []reasonClause `json:"not_tripping" doc:"Why it does not open, or does not refuse."  nullable:"false"`
	Next        []reasonClause `json:"next"         doc:"What happens next, and when."               nullable:"false"`
}

// reasonClause is one reason. The document does not list its codes, for there will be more.
type reasonClause struct {
	Code   string         `json:"code"   doc:"Its stable name."`
	Clause string         `json:"clause" doc:"The rule of the machine, as docs/architecture.md lists them." example:"B10"`
	Text   string         `json:"text"   doc:"A sentence for people."`
	Values map[string]any `json:"values" doc:"Its numbers and names." nullable:"false"`
}

func (a *api) explainRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET " + oneAdminPath + "/explain", ID: "explainCircuitBreaker", Role: access.Read, Tag: "breakers",
		Summary: "Why it is as it is, why it does not open, and what happens next",
		Codes:   []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.InvalidValue},
	}, a.explain)
}

func (a *api) explain(r *route.Request, _ route.None) (out explainReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	v, p, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	inForce, origins, _ := a.Policies.Describe(r.Context(), r.Agent) // what is not in force is on the breaker's own page
	if inForce != (breaker.Policy{}) {
		p = inForce
	}
	ours, err := a.Policies.Resolve("", policy.Override{})
	e := explanation{
		View: v, p: p.WithDefaults(), globalOff: err == nil && ours.Disabled, enabledFrom: origins[policy.Enabled],
	}
	if err := a.readBeside(r, &e); err != nil && !v.Degraded {
		return out, err
	}
	e.explain()
	return explainReply{
		AgentID: r.Agent, State: v.State.Upper(), NowMs: v.NowMs, Degraded: v.Degraded,
		Because: e.because, NotTripping: e.notTripping, Next: e.next,
	}, nil
}

// readBeside reads what is not of the breaker itself.
func (a *api) readBeside(r *route.Request, e *explanation) (err error) {
	gate, err := a.Fleet.Gate(r.Context())
	if err != nil {
		return err
	}
	e.gate = shownGate(gate)
	heard, err := a.Fleet.Replicas(r.Context())
	if err != nil {
		return err
	}
	for _, h := range heard {
		if h.State() != redisdocs.Gone { // so the trip counts them
			e.replicas++
		}
	}
	if e.evidence, err = a.evidenceOf(r.Context(), r.Agent, e.View); err != nil {
		return err
	}
	e.seen, err = a.Directory.Seen(r.Context(), r.Agent)
	return err
}

// evidencePages bounds how much of the stream is searched for what replicas said of an opening.
const evidencePages = 2

// evidenceOf reads what each replica said that it had reported of the window on which a breaker opened [B23].
func (a *api) evidenceOf(ctx context.Context, agent string, v breaker.View) (said []breaker.Event, err error) {
	if v.State != breaker.Open || v.Hold.Kind != "" || v.OpenedMs <= 0 || v.Degraded {
		return nil, nil
	}
	from := events.ID{Ms: uint64(v.OpenedMs)}
	for range evidencePages {
		read, err := a.Events.Entries(ctx, events.All, from, events.Last(), scanPage)
		if err != nil {
			return nil, err
		}
		for _, e := range read {
			from = e.ID.Next()
			if e.Agent == agent && e.Event.Kind == redisdocs.EventEvidence && e.Event.Epoch == v.Epoch {
				said = append(said, e.Event)
			}
		}
		if len(read) < scanPage {
			break
		}
	}
	return said, nil
}

// explanation is one under way.
type explanation struct {
	breaker.View

	p           breaker.Policy
	globalOff   bool
	enabledFrom string // the layer that has set enabled
	evidence    []breaker.Event
	seen        time.Time
	gate        gateReply
	replicas    int // that are up

	because, notTripping, next []reasonClause
}

// values are the numbers and names of a clause.
type values map[string]any

func clausef(code, rule string, v values, format string, args ...any) reasonClause {
	if v == nil {
		v = values{}
	}
	return reasonClause{Code: code, Clause: rule, Values: v, Text: fmt.Sprintf(format, args...)}
}

func (e *explanation) ledf(code, rule string, v values, format string, args ...any) {
	e.because = append(e.because, clausef(code, rule, v, format, args...))
}

func (e *explanation) keepsf(code, rule string, v values, format string, args ...any) {
	e.notTripping = append(e.notTripping, clausef(code, rule, v, format, args...))
}

func (e *explanation) thenf(code, rule string, v values, format string, args ...any) {
	e.next = append(e.next, clausef(code, rule, v, format, args...))
}

func (e *explanation) explain() {
	e.because, e.notTripping, e.next = []reasonClause{}, []reasonClause{}, []reasonClause{}
	e.switches()
	e.fleetGate()
	switch {
	case e.Hold.Kind != "":
		e.held()
	case e.State == breaker.Open:
		e.opened()
	case e.State == breaker.HalfOpen:
		e.halfOpen()
	default:
		e.closed()
	}
}

// switches says what outranks the machine [B21].
func (e *explanation) switches() {
	switch {
	case e.globalOff:
		e.keepsf("global_switch_off", "B21", nil,
			"The global switch of this replica is off (CIRCUIT_BREAKER_ENABLED): it admits every call, and records none.")
	case e.p.Disabled:
		e.keepsf("disabled", "B21", values{"origin": e.enabledFrom},
			"enabled is false (%s): every call is admitted, and none is recorded, but for a hold.", e.enabledFrom)
	}
	if e.p.Mode == breaker.Observe {
		e.keepsf("observe", "B21", nil,
			"mode is observe: the breaker runs, says what it would have refused, and refuses nothing but for a hold.")
	}
}

// fleetGate says what the gate of the whole fleet does to the calls that this breaker would admit [B24].
func (e *explanation) fleetGate() {
	g := e.gate
	if g.Action == "" || g.Action == actionNone {
		return
	}
	v := values{"action": g.Action, "share": g.Share, "until": g.Until, "reason": g.Reason, "actor": g.Actor}
	e.ledf("fleet_gate", "B24", v, "The fleet's gate admits a share of %s of all calls (%s), whatever this breaker says.",
		show(g.Share), g.Action)
	if g.Until != nil {
		e.thenf("fleet_gate_ends", "B24", values{"at": *g.Until}, "The fleet's gate ends at %s.", *g.Until)
	}
}

// held explains a hold [B17].
func (e *explanation) held() {
	h, reason := e.Hold, view.Reason(e.View)
	v := values{
		"actor": view.Actor(h.Actor), "reason": reason, "since": stampOf(h.StartMs), "protected": h.Protected == 1,
	}
	who, protected := "Somebody", ""
	if actor := view.Actor(h.Actor); actor != nil {
		who = *actor
	}
	if h.Protected == 1 {
		protected = " Only force lifts it."
	}
	after := "half-open"
	if h.Kind == breaker.Open {
		e.ledf("hold_open", "B17", v, "%s holds it open since %s: %q.%s", who, stampOf(h.StartMs), reason, protected)
	} else {
		after = "closed, with nothing counted"
		e.ledf("hold_closed", "B17", v, "%s holds it closed since %s: %q.%s", who, stampOf(h.StartMs), reason, protected)
		e.keepsf("hold_closed", "B17", v, "It is held closed: every call is admitted and recorded, and nothing opens it.")
	}
	if h.LengthMs == 0 {
		e.thenf("hold_endless", "B17", nil, "The hold has no end: it stands until somebody lifts it.")
		return
	}
	end := h.StartMs + h.LengthMs
	e.thenf("hold_ends", "B17", e.at(end), "The hold ends at %s; then the breaker is %s.", stampOf(end), after)
}

// at are the values of a moment to come.
func (e *explanation) at(ms int64) values {
	return values{"at": stampOf(ms), "in_seconds": secondsOf(max(0, ms-e.NowMs))}
}

func stampOf(ms int64) string {
	if s := view.Stamp(ms); s != nil {
		return *s
	}
	return "an unknown time"
}

func secondsOf(ms int64) float64 { return float64(ms) / 1000 }

func show(x float64) string { return route.FormatNumber(x) }

func share(of, all int64) float64 { return math.Round(float64(of)/float64(max(all, 1))*1e6) / 1e6 }

// opened explains an open breaker [B10].
func (e *explanation) opened() {
	e.cause()
	e.wait()
	e.reporters()
	end, v := e.DeadlineMs(), e.at(e.DeadlineMs())
	v["probes"], v["successes_needed"] = e.p.HalfOpenMaxCalls, e.need()
	e.thenf("half_open_at", "B12", v, "The wait ends at %s. Then calls are probes, at most %d in a round over all "+
		"replicas, and %d successes close it.", stampOf(end), e.p.HalfOpenMaxCalls, e.need())
	e.afterProbes()
}

// need is how many probes of a new round have to succeed.
func (e *explanation) need() int {
	need := e.p.HalfOpenSuccessThreshold
	if need == 0 || need > e.p.HalfOpenMaxCalls {
		need = e.p.HalfOpenMaxCalls
	}
	return need
}

// cause says why the breaker has opened.
func (e *explanation) cause() {
	at, ev := stampOf(e.OpenedMs), e.Evidence
	v := values{
		"opened_at": at, "failures": ev.Failures, "calls": ev.Calls, "slow": ev.Slow, "consecutive_failures": ev.Run,
	}
	switch e.Cause {
	case byRun:
		v["failure_threshold"] = max(e.p.FailureThreshold, 0)
		e.ledf(byRun, "B6", v, "It opened at %s: %d failures in a row reached failure_threshold (now %d).",
			at, ev.Run, v["failure_threshold"])
	case byRate:
		rate, threshold := share(ev.Failures, ev.Calls), max(e.p.FailureRateThreshold, 0)
		v["failure_rate"], v["failure_rate_threshold"], v["minimum_calls"] = rate, threshold, e.p.MinimumCalls
		e.ledf(byRate, "B7", v, "It opened at %s: %d of %d calls in the window failed, a rate of %s, which reached "+
			"failure_rate_threshold (now %s, from %d calls on).",
			at, ev.Failures, ev.Calls, show(rate), show(threshold), e.p.MinimumCalls)
	case bySlow:
		rate, threshold, longer := share(ev.Slow, ev.Calls), e.p.SlowCallRateThreshold, e.p.SlowCallDuration.Seconds()
		v["slow_rate"], v["slow_call_rate_threshold"], v["slow_call_duration_seconds"] = rate, threshold, longer
		e.ledf(bySlow, "B8", v, "It opened at %s: %d of %d calls were slow, a rate of %s, which reached "+
			"slow_call_rate_threshold (now %s of calls longer than %s s).",
			at, ev.Slow, ev.Calls, show(rate), show(threshold), show(longer))
	case byProbe:
		e.ledf(byProbe, "B13", v, "It opened again at %s: %d of %d probes failed, so that the round could not succeed.",
			at, ev.Failures, ev.Calls)
	case byUpstream:
		v["retry_after"] = string(e.p.RetryAfter)
		e.ledf(byUpstream, "B22", v, "It opened at %s: the agent asked its callers to wait (retry_after is now %s).",
			at, e.p.RetryAfter)
	case byHand:
		e.ledf(byHand, "B19", values{"opened_at": at}, "Somebody edited its keys: it counts as opened at %s.", at)
	default:
		v := values{"opened_at": at, "reason": view.Reason(e.View)}
		e.ledf(causeOperator, "B18", v, "An operator brought it about at %s: %q.", at, v["reason"])
	}
	if e.FirstCause != "" {
		v := values{"cause": e.FirstCause}
		e.ledf("first_cause", "B10", v, "This episode began with another cause: %s.", e.FirstCause)
	}
	if e.Reopens > 0 {
		v := values{"reopens": e.Reopens}
		e.ledf("reopens", "B10", v, "It has opened again %s since it was last closed.", times(e.Reopens))
	}
}

// times says how often.
func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatInt(n, 10) + " times"
}

// wait says what the wait is made of [B10].
func (e *explanation) wait() {
	w := e.Wait
	v := values{
		"wait_seconds": secondsOf(e.WaitMs), "base_seconds": secondsOf(w.BaseMs), "jitter_seconds": secondsOf(w.JitterMs),
		"upstream_seconds": secondsOf(w.UpstreamMs), "reopens": e.Reopens, "timeout_seconds": e.p.Timeout.Seconds(),
		"timeout_multiplier": e.p.TimeoutMultiplier, "timeout_max_seconds": e.p.TimeoutMax.Seconds(),
	}
	all, base, jitter := show(secondsOf(e.WaitMs)), show(secondsOf(w.BaseMs)), show(secondsOf(w.JitterMs))
	switch {
	case w == (machine.Wait{}):
		e.ledf("wait", "B10", v, "It waits %s s.", all)
	case w.UpstreamMs > w.BaseMs+w.JitterMs:
		e.ledf("wait", "B22", v, "It waits %s s, as the agent asked; its own wait would be %s s and %s s of jitter.",
			all, base, jitter)
	default:
		e.ledf("wait", "B10", v, "It waits %s s: %s s, reopenings included, and %s s of jitter.", all, base, jitter)
	}
}

// reporters says who has reported [B23].
func (e *explanation) reporters() {
	if len(e.Reporters) > 0 {
		by := values{}
		for name, ms := range e.Reporters {
			by[name] = stampOf(ms)
		}
		e.ledf("reporters", "B23", values{"reporters": by, "minimum_reporters": e.p.MinimumReporters},
			"%d reporters have seen failures; minimum_reporters is %d now.", len(by), e.p.MinimumReporters)
	}
	if len(e.evidence) == 0 {
		return
	}
	by := values{}
	for _, s := range e.evidence {
		by[s.Actor] = values{"failures": s.Failures, "calls": s.Calls}
	}
	e.ledf("reported_by", "B23", values{"reporters": by},
		"So many replicas say that they reported failures of that window: %d.", len(by))
	if only := e.evidence[0]; len(by) == 1 && only.Calls < e.Evidence.Calls {
		others := e.Evidence.Calls - only.Calls
		e.ledf("fails_alone", "B23", values{"reporter": only.Actor},
			"%s fails alone: %d of its %d calls failed, and none of the others' %d.",
			only.Actor, only.Failures, only.Calls, others)
	}
}

// halfOpen explains a round of probes [B12], [B13].
func (e *explanation) halfOpen() {
	e.cause()
	r, live := e.Round, len(e.Leases)
	v := values{
		"since": stampOf(r.StartMs), "max": r.Max, "need": r.Need, "succeeded": r.OK, "failed": r.Failed, "live": live,
	}
	e.ledf("round", "B12", v, "Probes decide since %s: of at most %d, %d succeeded, %d failed, and %d are under way.",
		v["since"], r.Max, r.OK, r.Failed, live)
	successes, failures := r.Need-r.OK, r.Max-r.Need+1-r.Failed
	e.thenf("closes", "B13", values{"successes_needed": successes}, "Successes that still close it: %d.", successes)
	e.thenf("reopens", "B13", values{"failures_needed": failures}, "Failures that still open it again: %d.", failures)
	if e.Free() > 0 {
		e.thenf("probes_free", "B12", values{"free": e.Free()}, "Calls that are admitted as probes: %d.", e.Free())
	} else if first := e.firstLeaseEnd(); first > 0 {
		e.thenf("probes_busy", "B12", e.at(first), "All places are taken: calls are refused until a probe ends, or its "+
			"lease does, at %s unless it is renewed.", stampOf(first))
	}
	e.afterProbes()
}

// firstLeaseEnd is when the first lease ends, 0: there is none.
func (e *explanation) firstLeaseEnd() int64 {
	var ends []int64
	for _, l := range e.Leases {
		ends = append(ends, l.StartMs+l.LengthMs)
	}
	if len(ends) == 0 {
		return 0
	}
	return slices.Min(ends)
}

// afterProbes says what follows a round: the next wait, or the ramp.
func (e *explanation) afterProbes() {
	base := min(e.p.Timeout, e.p.TimeoutMax)
	for i := int64(0); i <= e.Reopens && base < e.p.TimeoutMax && e.p.TimeoutMultiplier > 1; i++ {
		base = min(time.Duration(float64(base)*e.p.TimeoutMultiplier).Truncate(time.Millisecond), e.p.TimeoutMax)
	}
	jitter := base.Seconds() * e.p.TimeoutJitter
	v := values{"base_seconds": base.Seconds(), "jitter_seconds_at_most": jitter}
	e.thenf("next_wait", "B10", v, "If the probes fail, the next wait is %s s and at most %s s of jitter, or what the "+
		"agent asks for, if that is longer.", show(base.Seconds()), show(jitter))
	if e.p.RecoveryRamp <= 0 {
		return
	}
	floor, length := max(e.p.RampFloor, 0), e.p.RecoveryRamp.Seconds()
	v = values{"recovery_ramp_seconds": length, "ramp_floor": floor}
	e.thenf("ramp", "B16", v, "Once it closes, it admits a share of the calls that grows from %s to all over %s s.",
		show(floor), show(length))
}
