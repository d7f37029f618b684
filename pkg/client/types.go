// Code generated from the OpenAPI documents by go test ./internal/clientgen -update. DO NOT EDIT.

package client

import (
	"encoding/json"
	"time"
)

// Code is the stable name of what an Error says. A newer server may have others.
type Code string

// The codes.
const (
	CodeAgentAddressDenied   Code = "agent_address_denied"
	CodeAgentConflict        Code = "agent_conflict"
	CodeAgentFailed          Code = "agent_failed"
	CodeAgentHasNoURL        Code = "agent_has_no_url"
	CodeAgentInFile          Code = "agent_in_file"
	CodeActionUnknown        Code = "action_unknown"
	CodeAgentUnknown         Code = "agent_unknown"
	CodeBackupBroken         Code = "backup_broken"
	CodeBackupForeign        Code = "backup_foreign"
	CodeBackupNewer          Code = "backup_newer"
	CodeBodyRequired         Code = "body_required"
	CodeBodyTooLarge         Code = "body_too_large"
	CodeCircuitBreakerOpen   Code = "circuit_breaker_open"
	CodeConfigAbsent         Code = "config_absent"
	CodeConfigInvalid        Code = "config_invalid"
	CodeCrossOrigin          Code = "cross_origin"
	CodeExecutionCancelled   Code = "execution_cancelled"
	CodeExecutionUnknown     Code = "execution_unknown"
	CodeForbidden            Code = "forbidden"
	CodeForbiddenAgent       Code = "forbidden_agent"
	CodeGateHeaderRequired   Code = "gate_header_required"
	CodeHoldExists           Code = "hold_exists"
	CodeHoldProtected        Code = "hold_protected"
	CodeHostNotAllowed       Code = "host_not_allowed"
	CodeInputMissing         Code = "input_missing"
	CodeInternal             Code = "internal"
	CodeInvalidActionID      Code = "invalid_action_id"
	CodeInvalidAgentName     Code = "invalid_agent_name"
	CodeInvalidBody          Code = "invalid_body"
	CodeInvalidExecutionID   Code = "invalid_execution_id"
	CodeInvalidJSON          Code = "invalid_json"
	CodeInvalidPath          Code = "invalid_path"
	CodeInvalidPermit        Code = "invalid_permit"
	CodeInvalidToken         Code = "invalid_token"
	CodeInvalidValue         Code = "invalid_value"
	CodeInvalidWorkflowID    Code = "invalid_workflow_id"
	CodeLeaseLost            Code = "lease_lost"
	CodeLoopDetected         Code = "loop_detected"
	CodeMethodNotAllowed     Code = "method_not_allowed"
	CodeMoreThanExpected     Code = "more_than_expected"
	CodeNotFound             Code = "not_found"
	CodeNotHeld              Code = "not_held"
	CodeNotReady             Code = "not_ready"
	CodeOverloaded           Code = "overloaded"
	CodePreconditionFailed   Code = "precondition_failed"
	CodePreconditionRequired Code = "precondition_required"
	CodeRateLimited          Code = "rate_limited"
	CodeRequestTimeout       Code = "request_timeout"
	CodeStoreUnavailable     Code = "store_unavailable"
	CodeTooManyAgents        Code = "too_many_agents"
	CodeTooManyConnections   Code = "too_many_connections"
	CodeTooManyExecutions    Code = "too_many_executions"
	CodeTooManyStreams       Code = "too_many_streams"
	CodeTooManyWorkflows     Code = "too_many_workflows"
	CodeUnauthenticated      Code = "unauthenticated"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeUpstreamTimeout      Code = "upstream_timeout"
	CodeUpstreamUnreachable  Code = "upstream_unreachable"
	CodeWorkflowInDirectory  Code = "workflow_in_directory"
	CodeWorkflowInvalid      Code = "workflow_invalid"
	CodeWorkflowMemory       Code = "workflow_memory"
	CodeWorkflowTimeout      Code = "workflow_timeout"
	CodeWorkflowUnknown      Code = "workflow_unknown"
)

// AcquireRequest says on whose behalf a call is made. Its zero value says nothing.
type AcquireRequest struct {
	// The permit of the call that makes this one, if any.
	Parent string `json:"parent,omitzero"`
	// The agent that makes this call, if any: cascades show what follows from that.
	ParentAgent string `json:"parent_agent,omitzero"`
}

// AcquireReply is a permit.
type AcquireReply struct {
	Allowed bool `json:"allowed"`
	// Given by this replica alone, because Redis is down.
	Degraded bool `json:"degraded"`
	// Of a probe: report or renew within it. 0: no lease.
	LeaseSeconds float64 `json:"lease_seconds"`
	// Owes one report, to any replica.
	Permit string `json:"permit"`
	// One of CLOSED, HALF_OPEN.
	State string `json:"state"`
	// Mode observe: why the call would have been refused.
	Would string `json:"would,omitzero"`
}

// ReportRequest is how a call ended.
type ReportRequest struct {
	// How long the call took.
	DurationMs float64 `json:"duration_ms,omitzero"`
	// What went wrong, in a line.
	Error string `json:"error,omitzero"`
	// One of success, failure, ignored.
	Outcome string `json:"outcome"`
	// What acquire gave; without it, the outcome counts for a closed breaker or the oldest probe.
	Permit string `json:"permit,omitzero"`
	// Who saw it; default: this replica.
	Reporter string `json:"reporter,omitzero"`
	// What the upstream asked for.
	RetryAfterSeconds float64 `json:"retry_after_seconds,omitzero"`
}

// ReportReply says what became of a report.
type ReportReply struct {
	Counted bool `json:"counted"`
	// Counted by this replica alone, because Redis is down.
	Degraded bool `json:"degraded,omitzero"`
	// After it; "" when Redis was not asked. One of CLOSED, OPEN, HALF_OPEN.
	State string `json:"state,omitzero"`
	// Not counted: late, foreign, ignored, duplicate, observed, disabled, lost, unknown, untracked.
	Why string `json:"why,omitzero"`
}

// RenewRequest names the probe whose lease is lengthened.
type RenewRequest struct {
	Permit string `json:"permit"`
}

// RenewReply is the lengthened lease of a probe.
type RenewReply struct {
	LeaseSeconds float64 `json:"lease_seconds"`
}

// BatchOp is one acquire, report or renew of a batch. Which fields it takes depends on Op.
type BatchOp struct {
	Agent      string  `json:"agent"`
	DurationMs float64 `json:"duration_ms,omitzero"`
	Error      string  `json:"error,omitzero"`
	// As the header of report.
	IdempotencyKey string `json:"idempotency_key,omitzero"`
	// One of acquire, report, renew.
	Op string `json:"op"`
	// One of success, failure, ignored.
	Outcome           string  `json:"outcome,omitzero"`
	Parent            string  `json:"parent,omitzero"`
	ParentAgent       string  `json:"parent_agent,omitzero"`
	Permit            string  `json:"permit,omitzero"`
	Reporter          string  `json:"reporter,omitzero"`
	RetryAfterSeconds float64 `json:"retry_after_seconds,omitzero"`
}

// Breaker is one agent's breaker, as lists show it.
type Breaker struct {
	AgentID             string `json:"agent_id"`
	ConsecutiveFailures int64  `json:"consecutive_failures"`
	// Shown from this replica's memory, because Redis is down, or refuses to show it.
	Degraded bool `json:"degraded"`
	// New with every transition; "": a transition is due, and not in Redis yet.
	Epoch string `json:"epoch,omitzero"`
	// Closed: in the window now. Else: what it opened on.
	FailureCount int64 `json:"failure_count"`
	// failure_count over the calls of the same time.
	FailureRate float64 `json:"failure_rate"`
	// An operator's decision, if one stands.
	Hold     *Hold     `json:"hold,omitzero"`
	OpenedAt time.Time `json:"opened_at,omitzero"`
	// The round, while half-open.
	Probes *Probes `json:"probes,omitzero"`
	// A gradual return, while it lasts.
	Ramp *Ramp `json:"ramp,omitzero"`
	// Why it opened, or the operator's words.
	Reason string `json:"reason,omitzero"`
	// Openings since it was last closed, less the first.
	Reopens int64 `json:"reopens"`
	// One of CLOSED, OPEN, HALF_OPEN.
	State string `json:"state"`
	// Open: when it turns half-open by itself; zero: never.
	TimeoutUntil time.Time `json:"timeout_until,omitzero"`
	// Since the breaker came into being.
	Totals Totals `json:"totals"`
}

// Hold is an operator's decision on a breaker.
type Hold struct {
	// "": nobody gave a name.
	Actor string `json:"actor,omitzero"`
	// One of OPEN, CLOSED.
	Kind string `json:"kind"`
	// Lifted only with force.
	Protected bool      `json:"protected"`
	Since     time.Time `json:"since,omitzero"`
	// zero: until it is lifted.
	Until time.Time `json:"until,omitzero"`
}

// Probes is a half-open breaker's round of probes.
type Probes struct {
	Failed int64 `json:"failed"`
	// Under way now.
	Live int64 `json:"live"`
	// Test calls of this round, over all replicas.
	Max int64 `json:"max"`
	// Successes that close it.
	Need      int64 `json:"need"`
	Succeeded int64 `json:"succeeded"`
}

// Ramp is a gradual return.
type Ramp struct {
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Totals are what a breaker has counted since it came into being.
type Totals struct {
	Failures    int64 `json:"failures"`
	Successes   int64 `json:"successes"`
	Transitions int64 `json:"transitions"`
}

// BreakerDetail is one agent's breaker with its policy.
type BreakerDetail struct {
	Breaker

	// How long its calls took in about the last ten minutes, on all replicas; missing: none was measured.
	Latency *Latency `json:"latency,omitzero"`
	// Of probes that are under way, the oldest first.
	Leases []Lease `json:"leases"`
	// Each value by name, and where it came from.
	Policy map[string]PolicyValue `json:"policy"`
	// Why the override in Redis is not in force; the last good policy is.
	PolicyProblem string `json:"policy_problem,omitzero"`
	// With minimum_reporters: who failed, and when last.
	Reporters map[string]string `json:"reporters,omitzero"`
	// Its calls over an hour, where HISTORY_MINUTES keeps that, else over its window.
	Series Series `json:"series"`
}

// PolicyValue is a value of a policy, and the layer that it comes from.
type PolicyValue struct {
	Origin string          `json:"origin"`
	Value  json.RawMessage `json:"value"`
}

// ListEntry is one breaker of a list.
type ListEntry struct {
	Breaker

	// With include=seen: when it was last called, to a minute.
	LastSeen time.Time `json:"last_seen,omitzero"`
	// What its policy does. One of enforce, observe, disabled.
	Mode string `json:"mode"`
	// With include=override: who set its override, until when, and whether it is in force.
	Override *ListedOverride `json:"override,omitzero"`
	// With include=profile: what people say of the agent.
	Profile *ListedProfile `json:"profile,omitzero"`
	// With include=series: its calls over an hour, where HISTORY_MINUTES keeps that, else over its window.
	Series *Series `json:"series,omitzero"`
	// With include=window: what its window holds now.
	Window *Window `json:"window,omitzero"`
}

// Window is what a breaker's window holds.
type Window struct {
	Calls    int64 `json:"calls"`
	Failures int64 `json:"failures"`
	// How far back it looks.
	Seconds   float64 `json:"seconds"`
	Slow      int64   `json:"slow"`
	Successes int64   `json:"successes"`
}

// ListedProfile is what people say of an agent of a list.
type ListedProfile struct {
	Contact string            `json:"contact,omitzero"`
	Labels  map[string]string `json:"labels"`
	URL     string            `json:"url,omitzero"`
}

// ListedOverride says of an override what its values do not.
type ListedOverride struct {
	// When it was set; zero: nobody knows.
	At time.Time `json:"at,omitzero"`
	By string    `json:"by,omitzero"`
	// It no longer counts.
	Ended bool `json:"ended"`
	// Why it is not in force; "": it is, or has ended.
	Problem string `json:"problem,omitzero"`
	Reason  string `json:"reason,omitzero"`
	// When it stops to count; zero: it has no end.
	Until time.Time `json:"until,omitzero"`
}

// BreakerList is a page of a list of breakers.
type BreakerList struct {
	CircuitBreakers []ListEntry `json:"circuit_breakers"`
	// "": this was the last page.
	NextCursor string `json:"next_cursor,omitzero"`
	// Redis' clock when they were read, ms since 1970.
	NowMs int64 `json:"now_ms"`
	// Breakers that the query finds, on all pages.
	Total int64 `json:"total"`
}

// Explanation says why a breaker is as it is.
type Explanation struct {
	AgentID string `json:"agent_id"`
	// What led here.
	Because []ReasonClause `json:"because"`
	// From this replica's memory, because Redis is down.
	Degraded bool `json:"degraded"`
	// What happens next, and when.
	Next []ReasonClause `json:"next"`
	// Why it does not open, or does not refuse.
	NotTripping []ReasonClause `json:"not_tripping"`
	// Redis' clock, ms since 1970.
	NowMs int64 `json:"now_ms"`
	// One of CLOSED, OPEN, HALF_OPEN.
	State string `json:"state"`
}

// ReasonClause is one reason of an Explanation.
type ReasonClause struct {
	// The rule of the machine, as docs/architecture.md lists them.
	Clause string `json:"clause"`
	// Its stable name.
	Code string `json:"code"`
	// A sentence for people.
	Text string `json:"text"`
	// Its numbers and names.
	Values map[string]any `json:"values"`
}

// HoldRequest asks for a hold. Reason is needed.
type HoldRequest struct {
	// As the header X-Actor.
	Actor string `json:"actor,omitzero"`
	// Replaces a hold of another actor, and a protected one, too.
	Force bool `json:"force,omitzero"`
	// Is lifted only with force.
	Protected bool `json:"protected,omitzero"`
	// Needed; at most 500 bytes of printable text.
	Reason string `json:"reason,omitzero"`
	// How long it stands; without it, open: HOLD_DEFAULT_SECONDS, close: until it is lifted.
	TimeoutSeconds float64 `json:"timeout_seconds,omitzero"`
}

// ResetRequest asks for a reset. TargetState is needed.
type ResetRequest struct {
	// As the header X-Actor.
	Actor string `json:"actor,omitzero"`
	// Lifts a protected hold too.
	Force bool `json:"force,omitzero"`
	// CLOSED: admit a growing share of calls, all after so long.
	GradualSeconds float64 `json:"gradual_seconds,omitzero"`
	// For the log; at most 500 bytes of printable text.
	Reason string `json:"reason,omitzero"`
	// One of HALF_OPEN, CLOSED.
	TargetState string `json:"target_state"`
}

// ReleaseRequest asks for the end of a hold.
type ReleaseRequest struct {
	// As the header X-Actor.
	Actor string `json:"actor,omitzero"`
	// Ends a protected hold too.
	Force bool `json:"force,omitzero"`
	// For the log; at most 500 bytes of printable text.
	Reason string `json:"reason,omitzero"`
}

// ForceReply is a breaker after an operator's verb.
type ForceReply struct {
	AgentID string `json:"agent_id"`
	// The agent was not known before: is its name right?
	Created bool `json:"created,omitzero"`
	// The hold stands until somebody lifts it.
	Endless bool `json:"endless,omitzero"`
	// Of an agent that was not known: the known names that are nearest to its name.
	Nearest []string `json:"nearest,omitzero"`
	// One of CLOSED, OPEN, HALF_OPEN.
	State string `json:"state"`
	// One of reset, opened, closed, released.
	Status string `json:"status"`
}

// Override is an agent's policy override. A field that is nil overrides nothing.
type Override struct {
	// When.
	At time.Time `json:"_at,omitzero"`
	// Who set it.
	By string `json:"_by,omitzero"`
	// It no longer counts.
	Ended *bool `json:"_ended,omitzero"`
	// Why; at most 500 bytes of printable text.
	Reason string `json:"_reason,omitzero"`
	// From then on it does not count.
	Until time.Time `json:"_until,omitzero"`
	// one of ["release" "failure"].
	AbandonedProbe string `json:"abandoned_probe,omitzero"`
	// seconds from 0 to 2592000, to 0.001.
	AbandonedSeconds *float64 `json:"abandoned_seconds,omitzero"`
	// one of ["strict" "cached"].
	Consistency string `json:"consistency,omitzero"`
	// true or false.
	Enabled *bool `json:"enabled,omitzero"`
	// a number from 0 to 1.
	FailureRateThreshold *float64 `json:"failure_rate_threshold,omitzero"`
	// a whole number from 0 to 255.
	FailureThreshold *int64 `json:"failure_threshold,omitzero"`
	// a whole number from 1 to 1000.
	HalfOpenMaxCalls *int64 `json:"half_open_max_calls,omitzero"`
	// a whole number from 0 to 1000.
	HalfOpenSuccessThreshold *int64 `json:"half_open_success_threshold,omitzero"`
	// a whole number from 1 to 1000000000.
	MinimumCalls *int64 `json:"minimum_calls,omitzero"`
	// a whole number from 1 to 8.
	MinimumReporters *int64 `json:"minimum_reporters,omitzero"`
	// one of ["enforce" "observe"].
	Mode string `json:"mode,omitzero"`
	// one of ["local" "allow" "deny"].
	OnStoreError string `json:"on_store_error,omitzero"`
	// seconds from 0 to 2592000, to 0.001.
	ProbeSettleSeconds *float64 `json:"probe_settle_seconds,omitzero"`
	// seconds from 0.001 to 2592000, to 0.001.
	ProbeTimeoutSeconds *float64 `json:"probe_timeout_seconds,omitzero"`
	// a number from 0 to 1.
	RampFloor *float64 `json:"ramp_floor,omitzero"`
	// seconds from 0 to 2592000, to 0.001.
	RecoveryRampSeconds *float64 `json:"recovery_ramp_seconds,omitzero"`
	// one of ["ignore" "extend" "open"].
	RetryAfter string `json:"retry_after,omitzero"`
	// seconds from 0.001 to 2592000, to 0.001.
	RetryAfterMaxSeconds *float64 `json:"retry_after_max_seconds,omitzero"`
	// seconds from 0 to 2592000, to 0.001.
	SlowCallDurationSeconds *float64 `json:"slow_call_duration_seconds,omitzero"`
	// a number from 0 to 1.
	SlowCallRateThreshold *float64 `json:"slow_call_rate_threshold,omitzero"`
	// a number from 0 to 1.
	TimeoutJitter *float64 `json:"timeout_jitter,omitzero"`
	// seconds from 0.001 to 2592000, to 0.001.
	TimeoutMaxSeconds *float64 `json:"timeout_max_seconds,omitzero"`
	// a number from 1 to 100.
	TimeoutMultiplier *float64 `json:"timeout_multiplier,omitzero"`
	// seconds from 0.001 to 2592000, to 0.001.
	TimeoutSeconds *float64 `json:"timeout_seconds,omitzero"`
	// seconds from 0.012 to 2592000, to 0.001.
	WindowSizeSeconds *float64 `json:"window_size_seconds,omitzero"`

	// The tag of the document that was answered, for the next change of it; "": none.
	ETag string `json:"-"`
}

// Calls say how the bridge judges, counts and bounds calls of an agent.
type Calls struct {
	// What another classifier would have said is counted, and nothing else is done; default none. One of status,
	// jsonrpc, mcp, mcp_strict, llm, grpc, auto.
	ClassifyObserve string `json:"classify_observe,omitzero"`
	// The calls that count; default all but OPTIONS and HEAD, which never do.
	Count *Count `json:"count,omitzero"`
	// Statuses that are failures too, as 401, and ranges, as "500-599".
	FailureStatuses []any `json:"failure_statuses,omitzero"`
	// How long the first data of an answer's body may take; default no bound of its own.
	FirstTokenTimeoutSeconds float64 `json:"first_token_timeout_seconds,omitzero"`
	// How long an unused connection is kept, at most; default 4.
	IdleTimeoutSeconds float64 `json:"idle_timeout_seconds,omitzero"`
	// Statuses that do not count, likewise; none of failure_statuses.
	IgnoredStatuses []any `json:"ignored_statuses,omitzero"`
}

// Count says which calls of an agent its breaker counts.
type Count struct {
	// In upper case, neither OPTIONS nor HEAD; without them, any method.
	Methods []string `json:"methods,omitzero"`
	// How the path after the agent's own begins, decoded; without them, any path.
	PathPrefixes []string `json:"path_prefixes,omitzero"`
}

// Profile is what people write about an agent.
type Profile struct {
	Calls

	// What the bridge judges an answer by; default status. One of status, jsonrpc, mcp, mcp_strict, llm, grpc, auto.
	Classify string `json:"classify,omitzero"`
	// Whom to call; at most 500 bytes of printable text.
	Contact string `json:"contact,omitzero"`
	// At most 32; a name is 1 to 64 of A-Z a-z 0-9 . _ : @ -, a value at most 256 bytes.
	Labels map[string]string `json:"labels,omitzero"`
	// How long the bridge waits for its answer to begin, and for each next part.
	TimeoutSeconds float64 `json:"timeout_seconds,omitzero"`
	// http or https, without user, query and fragment; at most 2000 bytes.
	URL string `json:"url,omitzero"`
}

// Agent is an agent's profile, and how its breaker stands.
type Agent struct {
	Calls

	AgentID string `json:"agent_id"`
	// "": status.
	Classify      string `json:"classify,omitzero"`
	Contact       string `json:"contact,omitzero"`
	Degraded      bool   `json:"degraded"`
	HoldProtected bool   `json:"hold_protected"`
	// The agent registry's file has the agent: it says what the profile leaves open.
	InFile   bool              `json:"in_file"`
	Labels   map[string]string `json:"labels"`
	LastSeen time.Time         `json:"last_seen,omitzero"`
	OpenedAt time.Time         `json:"opened_at,omitzero"`
	Reason   string            `json:"reason,omitzero"`
	// One of CLOSED, OPEN, HALF_OPEN.
	State string `json:"state"`
	// zero: the bridge's default.
	TimeoutSeconds float64   `json:"timeout_seconds,omitzero"`
	TimeoutUntil   time.Time `json:"timeout_until,omitzero"`
	URL            string    `json:"url,omitzero"`

	// The tag of the document that was answered, for the next change of it; "": none.
	ETag string `json:"-"`
}

// Quarantine is an agent's failed and refused calls.
type Quarantine struct {
	// Failed and refused calls, newest first.
	Items []json.RawMessage `json:"items"`
}

// FleetRequest asks for a gate of the fleet. Action and Reason are needed.
type FleetRequest struct {
	// stop: admit no call. shed: refuse a percentage of all calls. recover: admit a growing share, from what is
	// admitted now, without a gate from none, to all. One of stop, shed, recover.
	Action string `json:"action"`
	// recover: until all calls are admitted; above 0.
	DurationSeconds float64 `json:"duration_seconds,omitzero"`
	// shed: how much of all calls is refused; above 0.
	Percentage float64 `json:"percentage,omitzero"`
	// At most 500 bytes of printable text.
	Reason string `json:"reason"`
	// recover: also reset every breaker that is open and not held, each with a ramp of the same length.
	ResetOpen bool `json:"reset_open,omitzero"`
	// stop, shed: when it ends by itself; without it, when it is lifted.
	UntilSeconds float64 `json:"until_seconds,omitzero"`
}

// Fleet is the fleet's gate: the share of all calls that every replica admits.
type Fleet struct {
	// Replicas that obey it.
	Acknowledged []string `json:"acknowledged"`
	// One of none, stop, shed, recover.
	Action string `json:"action"`
	Actor  string `json:"actor,omitzero"`
	// The share at started_at.
	From          float64 `json:"from"`
	LengthSeconds float64 `json:"length_seconds"`
	// Replicas that may not have heard of it: cut off, or gone without a word within the hour.
	Missing []string `json:"missing"`
	// Replicas whose global switch is off: they admit every call.
	NotCovered []string `json:"not_covered"`
	// Redis' clock.
	NowMs int64 `json:"now_ms"`
	// What of a gate that a hand wrote was not understood.
	Problem string `json:"problem,omitzero"`
	Reason  string `json:"reason,omitzero"`
	// With reset_open: the id of the action that resets the open breakers; missing if none was open.
	ResetAction string `json:"reset_action,omitzero"`
	// Of all calls, admitted now; the agents' breakers say more.
	Share     float64   `json:"share"`
	StartedAt time.Time `json:"started_at,omitzero"`
	// The share length_seconds later.
	To float64 `json:"to"`
	// When it ends by itself; zero: when it is lifted.
	Until time.Time `json:"until,omitzero"`

	// The tag of the document that was answered, for the next change of it; "": none.
	ETag string `json:"-"`
}

// ReplicaList is every replica of the fleet.
type ReplicaList struct {
	// The answering replica is cut off from Redis: replicas has itself alone, from its memory.
	Degraded bool `json:"degraded"`
	// This replica's clock.
	NowMs int64 `json:"now_ms"`
	// By name. One that ended in order is not there.
	Replicas []Replica `json:"replicas"`
	// The replica that answers. What it says of itself is as of now.
	Self string `json:"self"`
}

// Replica is a replica, by its heartbeat.
type Replica struct {
	// Of its last heartbeat.
	AgeSeconds float64 `json:"age_seconds"`
	// That it tracks.
	Agents int64 `json:"agents"`
	// That it has loaded, 16 at most.
	Certificates []Certificate `json:"certificates"`
	// Of agents without an override.
	Consistency   string    `json:"consistency"`
	CPU           CPU       `json:"cpu"`
	DegradedSince time.Time `json:"degraded_since,omitzero"`
	// Its policy is not that of most replicas.
	Drifts bool `json:"drifts"`
	// The global switch, CIRCUIT_BREAKER_ENABLED.
	Enabled bool `json:"enabled"`
	// The version of the fleet's gate that it obeys.
	Gate       string `json:"gate"`
	Goroutines int64  `json:"goroutines"`
	// When that was, by Redis' clock, ms since 1970; 0: this replica is cut off from Redis.
	HeartbeatMs int64  `json:"heartbeat_ms"`
	Host        string `json:"host"`
	ID          string `json:"id"`
	// REPLICA_LABELS.
	Labels map[string]string `json:"labels"`
	// Of Redis.
	LastError   string    `json:"last_error,omitzero"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Where it listens, as it was told to.
	Listen []string `json:"listen"`
	// Of its Go runtime.
	Memory Memory `json:"memory"`
	// A fingerprint of its defaults and its agent registry file.
	Policy  string `json:"policy"`
	Program string `json:"program"`
	// Of its newest calls of Redis, at most 1,024.
	RoundTripMs RoundTrips `json:"round_trip_ms"`
	StartedAt   time.Time  `json:"started_at,omitzero"`
	// suspect: two heartbeats are missing. gone: five, and it did not say that it ends. One of alive, suspect, gone.
	State string `json:"state"`
	// Stands for the data of the Redis that it sees; another text: another Redis, or one that has lost its data.
	Store   string `json:"store"`
	Version string `json:"version"`
	// Outcomes that it has not sent to Redis yet.
	Waiting Waiting `json:"waiting"`
}

// CPU is how busy a replica is.
type CPU struct {
	// That it may use at once.
	Cores int64 `json:"cores"`
	// In use between its last two heartbeats, of all that it may use, from 0 to 1.
	Share float64 `json:"share"`
}

// Memory is the memory of a replica.
type Memory struct {
	// GOMEMLIMIT, by default nine tenths of the container's limit; 0: none.
	LimitBytes int64 `json:"limit_bytes"`
	UsedBytes  int64 `json:"used_bytes"`
}

// Certificate is a certificate that a replica has loaded.
type Certificate struct {
	NotAfter time.Time `json:"not_after,omitzero"`
	// listen: its listeners show it. redis: it shows it to Redis. _ca: of an authority that it trusts there. One of
	// listen, listen_ca, redis, redis_ca.
	Role    string `json:"role"`
	Subject string `json:"subject"`
}

// Waiting is what a replica has not sent to Redis yet.
type Waiting struct {
	AgeSeconds float64 `json:"age_seconds"`
	Agents     int64   `json:"agents"`
	Outcomes   int64   `json:"outcomes"`
}

// RoundTrips are quantiles of a replica's calls of Redis, in milliseconds.
type RoundTrips struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Caller is who makes a request, and what he may do.
type Caller struct {
	// Patterns of the agents that may be named; zero: all.
	Agents []string `json:"agents,omitzero"`
	// One of token, session, certificate.
	By string `json:"by,omitzero"`
	// The actor of what is changed; "": nobody is asked who he is here.
	Name string `json:"name,omitzero"`
	// One of read, report, operate, admin.
	Role string `json:"role"`
	// When that ends by itself; zero: never.
	Until time.Time `json:"until,omitzero"`
}

// Restoration is what has become, or would become, of a backup that is restored.
type Restoration struct {
	// The identity of the data that it is of.
	Born   string `json:"born"`
	DryRun bool   `json:"dry_run"`
	// Agents that the agent registry's file named. The file is not restored.
	Filed    int64             `json:"filed"`
	Sections []RestoredSection `json:"sections"`
	// Of the backup, by the clock of its Redis.
	TakenAt time.Time `json:"taken_at"`
	// Those of which this replica's file says something else, or nothing.
	Unfiled Unfiled `json:"unfiled"`
	// Of the breakerd that wrote it.
	Version string `json:"version"`
}

// RestoredSection is what has become of one section of a backup.
type RestoredSection struct {
	// Redis has nothing in their place.
	Create int64 `json:"create"`
	// Their time is over.
	Expired int64 `json:"expired"`
	// The first ten of each count that is not 0.
	Names map[string][]string `json:"names"`
	// What Redis has is newer, or may be: it stays, unless overwrite is true.
	Newer int64 `json:"newer"`
	// What Redis has is older, or overwrite is true.
	Replace int64 `json:"replace"`
	// Redis has them.
	Same int64 `json:"same"`
	// One of gate, overrides, profiles, holds, breakers, workflows, registry, audit.
	Section string `json:"section"`
}

// Unfiled are agents of a backup of which a registry's file says something else.
type Unfiled struct {
	Count int64 `json:"count"`
	// The first ten.
	Names []string `json:"names"`
}

// TokenList is who is in AUTH_FILE.
type TokenList struct {
	// AUTH_FILE of this replica; "": there is none.
	File string `json:"file,omitzero"`
	// Why the file as it is now is not in force; the last good one is.
	Problem string `json:"problem,omitzero"`
	// In the order of the file. No token, and no hash of one, is shown.
	Tokens []TokenEntry `json:"tokens"`
}

// TokenEntry is an entry of AUTH_FILE, without what proves who somebody is.
type TokenEntry struct {
	// Patterns of the agents that it may name; empty: all.
	Agents  []string `json:"agents"`
	Expired bool     `json:"expired"`
	// zero: it does not expire.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Name      string    `json:"name"`
	// One of read, report, operate, admin.
	Role string `json:"role"`
	// Of the client certificate that stands for it; "": none does.
	Subject string `json:"subject,omitzero"`
	// A token stands for it.
	Token bool `json:"token"`
}

// WebhookList is every webhook of a replica's file.
type WebhookList struct {
	// By name.
	Webhooks []Webhook `json:"webhooks"`
}

// Webhook is a webhook: who sends, how far, and what was given up.
type Webhook struct {
	// Patterns; none: all.
	Agents []string `json:"agents"`
	// Id of the last event that was seen to; "": no replica has begun.
	Cursor string `json:"cursor,omitzero"`
	// The newest 50 of them, newest first.
	Dead []DeadLetter `json:"dead"`
	// Messages that were given up. Events that the stream lost before they were read count as one.
	DeadLetters int64 `json:"dead_letters"`
	// One of json, slack.
	Format string `json:"format"`
	// Of its url, the rest of which may be a secret.
	Host  string   `json:"host"`
	Kinds []string `json:"kinds"`
	// Events behind the cursor, of all kinds; 1000: or more.
	LagEvents int64 `json:"lag_events"`
	// Age of the oldest of them.
	LagSeconds  float64   `json:"lag_seconds"`
	LastError   string    `json:"last_error,omitzero"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	Name        string    `json:"name"`
	NextTryAt   time.Time `json:"next_try_at,omitzero"`
	// The replica that sends now; "": none.
	Sender string `json:"sender,omitzero"`
	// Messages that were taken.
	Sent   int64 `json:"sent"`
	Signed bool  `json:"signed"`
	// Of the message that was not taken yet; 0: none is tried again.
	Tries int64 `json:"tries"`
}

// DeadLetter is a message of a webhook that was given up.
type DeadLetter struct {
	// - for an event of no agent.
	AgentID string `json:"agent_id"`
	// When it was given up.
	AtMs int64 `json:"at_ms"`
	// Of the last try.
	Error string `json:"error"`
	// Its kind; lost: the stream was trimmed, or lost, before these events were read.
	Event string `json:"event"`
	// Of the event, as X-Event-ID has it; of lost events, the last one before them.
	ID    string `json:"id"`
	Tries int64  `json:"tries"`
}

// FindingList is a page of what is wrong in the fleet.
type FindingList struct {
	// Whose keys were looked at for this page.
	Agents   int64     `json:"agents"`
	Findings []Finding `json:"findings"`
	// "": this was the last page. A page may have no findings before the last one.
	NextCursor string `json:"next_cursor,omitzero"`
	// Redis' clock.
	NowMs int64 `json:"now_ms"`
	// That were compared.
	Replicas int64 `json:"replicas"`
}

// Finding is something that is not as it should be.
type Finding struct {
	// What to do, or what happens by itself.
	Action  string `json:"action"`
	AgentID string `json:"agent_id,omitzero"`
	// One of replica_missing, policy_differs, gate_behind, degraded, outcomes_wait, store_differs, switch_off, bad_key,
	// hand_edit, wrong_expiry, not_in_index, not_listed, cannot_be_read, override_invalid.
	Code   string `json:"code"`
	Detail string `json:"detail"`
	// In Redis.
	Key     string `json:"key,omitzero"`
	Replica string `json:"replica,omitzero"`
}

// Summary is what is wrong in the fleet, in counts.
type Summary struct {
	// All that are known.
	Agents int64 `json:"agents"`
	// Breakers that are not closed, by why they opened; operator: a person's decision.
	Causes map[string]int64 `json:"causes"`
	// false: this replica's global switch is off, and it admits and records nothing.
	Enabled bool `json:"enabled"`
	// Opened at least 3 times in the last 10 minutes, the most often first, 10 at most.
	Flappers []Flapper   `json:"flappers"`
	Gate     GateSummary `json:"gate"`
	Holds    HoldCounts  `json:"holds"`
	// Known agents that nobody has called for a day, the one called longest ago first.
	Idle Named `json:"idle"`
	// Agents whose override is not in force: it cannot be read, or fits no policy. The last good one is.
	InvalidOverrides Named `json:"invalid_overrides"`
	// Agents by label, those with most breakers that are not closed first; 100 at most.
	Labels []LabelCount `json:"labels"`
	// The breaker that opened last, and when; missing: the stream of events has no opening.
	LastOpening *OpeningAt `json:"last_opening,omitzero"`
	// Agents by what their policy does: enforce, observe, disabled.
	Modes map[string]int64 `json:"modes"`
	// The open breaker that is the first to let probes through by itself, and when; missing: none will.
	NextProbe *OpeningAt `json:"next_probe,omitzero"`
	// Redis' clock when the breakers were read, ms since 1970.
	NowMs int64 `json:"now_ms"`
	// Open for longest, 10 at most.
	OldestOpen []OldOpening `json:"oldest_open"`
	// Agents with an override in Redis.
	Overrides int64 `json:"overrides"`
	// Closed breakers that let calls return: they admit a part of them.
	Ramping  int64         `json:"ramping"`
	Replicas ReplicaCounts `json:"replicas"`
	// Agents by state.
	States map[string]int64 `json:"states"`
	// Agents whose breaker is not closed, or held, and that Redis refuses to show: they count as this replica remembers
	// them.
	Unreadable Named `json:"unreadable"`
	// Agents that neither the agent registry's file of this replica has nor a profile.
	Unregistered Named `json:"unregistered"`
}

// HoldCounts are the holds of the fleet.
type HoldCounts struct {
	Closed int64 `json:"closed"`
	Open   int64 `json:"open"`
	// Of both.
	Protected int64 `json:"protected"`
}

// LabelCount counts the agents that have a label.
type LabelCount struct {
	Agents    int64  `json:"agents"`
	Name      string `json:"name"`
	NotClosed int64  `json:"not_closed"`
	Value     string `json:"value"`
}

// OldOpening is a breaker that has been open for long.
type OldOpening struct {
	// Who holds it.
	Actor   string `json:"actor,omitzero"`
	AgentID string `json:"agent_id"`
	Calls   int64  `json:"calls"`
	// Of calls, on which it opened.
	Failures int64 `json:"failures"`
	// By an operator.
	Held     bool      `json:"held"`
	OpenedAt time.Time `json:"opened_at,omitzero"`
	Reason   string    `json:"reason,omitzero"`
}

// OpeningAt is an agent whose breaker opened, or lets probes through, and when.
type OpeningAt struct {
	AgentID string    `json:"agent_id"`
	At      time.Time `json:"at"`
}

// Flapper is a breaker that opens often.
type Flapper struct {
	AgentID  string `json:"agent_id"`
	Openings int64  `json:"openings"`
}

// Named counts agents, or replicas, and names the first of them.
type Named struct {
	Count int64 `json:"count"`
	// 10 at most.
	Names []string `json:"names"`
}

// GateSummary is the fleet's gate in short.
type GateSummary struct {
	// One of none, stop, shed, recover.
	Action string `json:"action"`
	Actor  string `json:"actor,omitzero"`
	Reason string `json:"reason,omitzero"`
	// Of all calls, admitted now.
	Share float64   `json:"share"`
	Since time.Time `json:"since,omitzero"`
	// When it ends by itself; zero: when it is lifted.
	Until time.Time `json:"until,omitzero"`
}

// ReplicaCounts counts the replicas, and names those that somebody should look at.
type ReplicaCounts struct {
	Alive int64 `json:"alive"`
	// They do not obey the fleet's gate yet.
	BehindGate Named `json:"behind_gate"`
	// They answer from their own memory, because Redis is down for them.
	Degraded Named `json:"degraded"`
	// Suspect, or gone: their heartbeats are missing.
	Missing Named `json:"missing"`
	// Their global switch is off.
	NotEnabled Named `json:"not_enabled"`
	// Outcomes that they have not sent to Redis yet.
	Waiting int64 `json:"waiting"`
}

// Cascades say which agents failed first, and which ones that call them followed.
type Cascades struct {
	// Each by the agent that failed first, oldest first.
	Cascades []Trip `json:"cascades"`
	// Known calls of one agent by another, within a day.
	Edges int64 `json:"edges"`
	// There were more openings than are looked at.
	Truncated bool `json:"truncated"`
}

// LatencyList are agents by how long their calls took.
type LatencyList struct {
	Agents []AgentLatency `json:"agents"`
	// Redis is down: these are the calls of the answering replica alone.
	Degraded bool `json:"degraded"`
	// Agents that the query finds, those beyond the limit included.
	Total int64 `json:"total"`
}

// AgentLatency is how long the calls of one agent took.
type AgentLatency struct {
	Latency

	AgentID string `json:"agent_id"`
}

// Latency is how long calls took in about the last ten minutes.
type Latency struct {
	// Exact: the sum of the durations by the calls.
	AverageMs float64 `json:"average_ms"`
	// Successes and failures whose duration is known.
	Calls int64 `json:"calls"`
	// Until the first byte of the answer, where bridge made the call; missing: no such call.
	FirstByte *FirstByte `json:"first_byte,omitzero"`
	// Percentiles are right to within a factor of two.
	P50Ms float64 `json:"p50_ms"`
	P95Ms float64 `json:"p95_ms"`
	P99Ms float64 `json:"p99_ms"`
	// How many made these calls.
	Replicas int64 `json:"replicas"`
	// No call is older; at most ten minutes ago.
	Since time.Time `json:"since"`
}

// FirstByte is how long the first bytes of answers took.
type FirstByte struct {
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
}

// Trip is an agent whose breaker has opened, and those that opened after it because they call it.
type Trip struct {
	AgentID string `json:"agent_id"`
	// The same, ms since 1970 by Redis' clock.
	AtMs  int64  `json:"at_ms"`
	Cause string `json:"cause"`
	Epoch string `json:"epoch"`
	// Who calls it, and opened after it.
	Followed []Trip `json:"followed"`
	// Of its first opening within the time.
	OpenedAt time.Time `json:"opened_at"`
	// Within the time.
	Openings int64 `json:"openings"`
	// Who stands between it and the one that it followed, without an opening of its own.
	Via []string `json:"via"`
}

// ActionRequest changes the breakers of many agents. Action and Reason are needed, and Agents or a Selector.
type ActionRequest struct {
	// What is done to each: held open or closed; reset to half-open or to closed; its hold ended as by itself. One of
	// open, close, half_open, reset, release.
	Action string `json:"action"`
	// Their names; either this or selector.
	Agents []string `json:"agents,omitzero"`
	// Only says which agents it would be.
	DryRun bool `json:"dry_run,omitzero"`
	// How many agents at most; if there are more, nothing is done.
	Expect *int64 `json:"expect,omitzero"`
	// Lifts protected holds, and replaces those of others.
	Force bool `json:"force,omitzero"`
	// reset: as for one agent.
	GradualSeconds float64 `json:"gradual_seconds,omitzero"`
	// open, close: as for one agent.
	Protected bool `json:"protected,omitzero"`
	// 1 to 500 bytes of printable text.
	Reason string `json:"reason"`
	// Those that the list finds with the same words; at least one of them.
	Selector *Selector `json:"selector,omitzero"`
	// open, close: as for one agent.
	TimeoutSeconds float64 `json:"timeout_seconds,omitzero"`
}

// Selector says which agents are meant, in the words of a list's query.
type Selector struct {
	Hold     []string `json:"hold,omitzero"`
	Label    []string `json:"label,omitzero"`
	Mode     []string `json:"mode,omitzero"`
	Override string   `json:"override,omitzero"`
	Q        string   `json:"q,omitzero"`
	Ramping  bool     `json:"ramping,omitzero"`
	Reason   string   `json:"reason,omitzero"`
	State    []string `json:"state,omitzero"`
}

// Action is what has become of an action.
type Action struct {
	// One of open, close, half_open, reset, release.
	Action     string    `json:"action"`
	Actor      string    `json:"actor"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	DryRun     bool      `json:"dry_run"`
	Finished   bool      `json:"finished"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// 16 hex digits; missing if nothing was begun.
	ID string `json:"id,omitzero"`
	// How many agents it is about.
	Matched int64  `json:"matched"`
	Reason  string `json:"reason"`
	// By agent.
	Results []ActionResult `json:"results"`
	// Of how many agents the part is still to be done.
	Todo int64 `json:"todo"`
}

// ActionResult is what has become of one agent's part of an action.
type ActionResult struct {
	AgentID string `json:"agent_id"`
	// refused: Redis refuses to change this breaker. One of todo, done, hold_protected, hold_exists, not_held,
	// agent_unknown, refused.
	Result string `json:"result"`
}

// Event is something that happened to a breaker, or to the fleet.
type Event struct {
	// "": the breaker itself.
	Actor string `json:"actor,omitzero"`
	// From which the actor asked; "": unknown.
	Address string `json:"address,omitzero"`
	// When it fell due, which may be before it was noticed.
	At time.Time `json:"at"`
	// The same, milliseconds since 1970.
	AtMs  int64 `json:"at_ms"`
	Calls int64 `json:"calls"`
	// Of an agent's document: what it held, and what it holds. Of two at once: by their names.
	Change              *Change `json:"change,omitzero"`
	ConsecutiveFailures int64   `json:"consecutive_failures"`
	Epoch               string  `json:"epoch"`
	// Its kind, of those that docs/events.md lists.
	Event    string `json:"event"`
	Failures int64  `json:"failures"`
	// One of CLOSED, OPEN, HALF_OPEN.
	From   string `json:"from,omitzero"`
	Reason string `json:"reason"`
	Slow   int64  `json:"slow"`
	// One of CLOSED, OPEN, HALF_OPEN.
	To string `json:"to,omitzero"`
}

// Change is what became of an agent's Document.
type Change struct {
	// null: there is none.
	After json.RawMessage `json:"after"`
	// null: there was none, or it is not known.
	Before json.RawMessage `json:"before"`
}

// AgentEvents are the newest events of one agent.
type AgentEvents struct {
	// Newest first, at most 64.
	Events []Event `json:"events"`
}

// Series is what was called of an agent, in slots of time of the same length.
type Series struct {
	// The slots in which there was a call, the oldest first.
	Points      []SeriesSlot `json:"points"`
	SlotSeconds float64      `json:"slot_seconds"`
	// How many slots there are; the last one holds now.
	Slots int64 `json:"slots"`
}

// SeriesSlot is what was called of an agent within one slot of a Series.
type SeriesSlot struct {
	Calls    int64 `json:"calls"`
	Failures int64 `json:"failures"`
	Slot     int64 `json:"slot"`
}

// Lease is a probe that is under way.
type Lease struct {
	// The middle of its permit, 16 hex digits.
	Permit string    `json:"permit"`
	Since  time.Time `json:"since"`
	// When its place is free again, unless it is reported or renewed.
	Until time.Time `json:"until"`
}

// History is what was called of an agent, minute by minute.
type History struct {
	AgentID string `json:"agent_id"`
	// HISTORY_MINUTES of this replica. 0: it keeps none, and minutes shows the window alone.
	KeptMinutes int64 `json:"kept_minutes"`
	// Oldest first; one without a call is left out.
	Minutes []Minute `json:"minutes"`
	// Redis' clock.
	NowMs int64 `json:"now_ms"`
}

// Minute is what was called of an agent within one minute.
type Minute struct {
	// When the minute began. A call counts in the minute in which its bucket of the window began.
	At       time.Time `json:"at"`
	Calls    int64     `json:"calls"`
	Failures int64     `json:"failures"`
	Slow     int64     `json:"slow"`
}

// FleetEvent is an event with its place in the stream.
type FleetEvent struct {
	Event

	// "": it is no agent's.
	AgentID string `json:"agent_id,omitzero"`
	// Its place in the stream, the same at every replica.
	ID string `json:"id"`
}

// FleetEvents is a page of the stream of events.
type FleetEvents struct {
	// With since, oldest first; else newest first.
	Events []FleetEvent `json:"events"`
	// since is an id that the stream no longer has: events may be missing before the first.
	Gap bool `json:"gap"`
	// "": this was the last page. A page may have fewer events than limit, or none, before the last one.
	NextCursor string `json:"next_cursor,omitzero"`
}

// Audit is a page of the audit.
type Audit struct {
	// Newest first.
	Entries []FleetEvent `json:"entries"`
	// "": this was the last page. A page may have fewer entries than limit, or none, before the last one.
	NextCursor string `json:"next_cursor,omitzero"`
}

// Live says that the process answers.
type Live struct {
	// One of ok.
	Status string `json:"status"`
}

// Ready says that the replica wants calls.
type Ready struct {
	// One of ready.
	Status string `json:"status"`
}

// Health says how well a replica is.
type Health struct {
	ReplicaID string `json:"replica_id"`
	// The lowest of the checks' scores, 0 to 1.
	Score float64 `json:"score"`
	// One of healthy, degraded, unhealthy.
	Status        string  `json:"status"`
	UptimeSeconds float64 `json:"uptime_seconds"`
	Version       string  `json:"version"`
}

// Checks says how well a replica is, part by part.
type Checks struct {
	Health

	Checks map[string]Check `json:"checks"`
}

// Check is one part of a replica's health.
type Check struct {
	// What to do, if it is not healthy.
	Advice string `json:"advice,omitzero"`
	// Which fault it is, where the check knows several, as a stable name.
	Code string `json:"code,omitzero"`
	// This replica answers from its own memory, because Redis is down.
	Degraded bool   `json:"degraded"`
	Detail   string `json:"detail,omitzero"`
	// How long it took to answer.
	LatencyMs float64 `json:"latency_ms,omitzero"`
	// healthy: 1, degraded: 0.6, or 0.3 where the fleet cannot do without; unhealthy: 0.
	Score float64 `json:"score"`
	// The Redis server that it concerns: its address, or the URL without secrets.
	Server string `json:"server,omitzero"`
	// Since when it has this status, as far as this replica has looked.
	Since time.Time `json:"since"`
	// One of healthy, degraded, unhealthy.
	Status string `json:"status"`
	// Outcomes that wait until Redis takes them.
	Unsent *Unsent `json:"unsent,omitzero"`
	// What works, but should be set otherwise.
	Warnings []string `json:"warnings,omitzero"`
}

// Unsent are outcomes that Redis has not acknowledged yet.
type Unsent struct {
	Agents int64 `json:"agents"`
	// How long the oldest of them has waited.
	OldestSeconds float64 `json:"oldest_seconds"`
	Outcomes      int64   `json:"outcomes"`
}

// RegistrationList is a page of the bridge's agents.
type RegistrationList struct {
	Agents []Registration `json:"agents"`
	// Redis is down: these are the agents of the file alone.
	Degraded bool `json:"degraded,omitzero"`
	// "": this was the last page.
	NextCursor string `json:"next_cursor,omitzero"`
}

// Registration is an agent as the bridge knows it. To register one, Name is needed.
type Registration struct {
	Calls

	Breaker              *Breaker  `json:"breaker,omitzero"`
	CircuitBreakerConfig *Override `json:"circuit_breaker_config,omitzero"`
	// What a failure is told by: the status, or what the body says in this protocol too. One of status, jsonrpc, mcp,
	// mcp_strict, llm, grpc, auto.
	Classify string `json:"classify,omitzero"`
	// Whom to call; at most 500 bytes of printable text.
	Contact string `json:"contact,omitzero"`
	// At most 32, each at most 256 bytes.
	Labels map[string]string `json:"labels,omitzero"`
	Name   string            `json:"name,omitzero"`
	// file: the API cannot change it. One of file, api.
	Origin string `json:"origin,omitzero"`
	// How long its answer may take to begin, and each next part of it.
	TimeoutSeconds float64 `json:"timeout_seconds,omitzero"`
	// http or https; without it the agent is a policy that has no address.
	URL string `json:"url,omitzero"`
}

// Workflow is the definition of a workflow.
type Workflow struct {
	Description string `json:"description,omitzero"`
	// For people.
	Name string `json:"name,omitzero"`
	// By id; those that wait for nothing run at once.
	Steps map[string]Step `json:"steps"`
	// Of a whole execution; default 600.
	TimeoutSeconds float64 `json:"timeout_seconds,omitzero"`
	WorkflowID     string  `json:"workflow_id"`
}

// Step is one step of a workflow.
type Step struct {
	AgentName string `json:"agent_name"`
	// Values for references that find nothing, by the reference: {"$.steps.step-1.output": null}.
	Defaults map[string]any `json:"defaults,omitzero"`
	// Steps to wait for, besides those that input_mapping refers to.
	DependsOn []string `json:"depends_on,omitzero"`
	// The same as its name in steps.
	ID string `json:"id,omitzero"`
	// The agent's input: literals, and references such as "$.input.text" or "$.steps.step-1.output.text"; "$$." begins
	// a literal "$.".
	InputMapping map[string]any `json:"input_mapping,omitzero"`
	// What becomes of the execution when the step fails or is refused; default fail. One of fail, continue.
	OnFailure string `json:"on_failure,omitzero"`
	// Below the agent's address.
	Path string `json:"path,omitzero"`
	// Of this call; default: the agent's own.
	TimeoutSeconds float64 `json:"timeout_seconds,omitzero"`
}

// WorkflowList is every workflow of the bridge.
type WorkflowList struct {
	// Redis is down: these are what this replica knows.
	Degraded  bool            `json:"degraded,omitzero"`
	Workflows []WorkflowEntry `json:"workflows"`
}

// WorkflowEntry is a workflow of a list.
type WorkflowEntry struct {
	Name       string `json:"name,omitzero"`
	Origin     string `json:"origin"`
	Steps      int64  `json:"steps"`
	WorkflowID string `json:"workflow_id"`
}

// ExecuteRequest is what an execution is given.
type ExecuteRequest struct {
	// What $.input refers to.
	Input map[string]any `json:"input,omitzero"`
}

// Execution is one finished run of a workflow.
type Execution struct {
	DurationMs int64 `json:"duration_ms"`
	// What stopped it; absent when completed.
	Error *ExecutionError `json:"error,omitzero"`
	// 32 hex digits, random.
	ExecutionID string `json:"execution_id"`
	// Steps that failed or were refused and whose on_failure is continue; sorted.
	FailedSteps []string  `json:"failed_steps,omitzero"`
	FinishedAt  time.Time `json:"finished_at"`
	// Of a completed execution: the output of each step that no other depends on, by the step's id; without those that
	// failed.
	Output map[string]json.RawMessage `json:"output,omitzero"`
	// Too large to be kept: all outputs are left out, and where that is not enough, all steps.
	OutputTruncated bool `json:"output_truncated,omitzero"`
	// To the millisecond, UTC.
	StartedAt time.Time `json:"started_at"`
	// refused: by a circuit breaker. cancelled: its caller went away. One of completed, failed, refused, cancelled.
	Status string `json:"status"`
	// By id: all of the workflow, also those that never began.
	Steps      map[string]StepResult `json:"steps"`
	WorkflowID string                `json:"workflow_id"`
}

// StepResult is the result of one step.
type StepResult struct {
	AgentName  string          `json:"agent_name"`
	DurationMs int64           `json:"duration_ms"`
	Error      *ExecutionError `json:"error,omitzero"`
	ID         string          `json:"id"`
	// The agent's answer; only when completed.
	Output json.RawMessage `json:"output,omitzero"`
	// Absent when skipped.
	StartedAt time.Time `json:"started_at,omitzero"`
	// refused: by the agent's circuit breaker. cancelled: the execution stopped while it ran. skipped: it never began.
	// One of completed, failed, refused, cancelled, skipped.
	Status string `json:"status"`
}

// ExecutionError is why an execution or a step did not complete.
type ExecutionError struct {
	// The step's agent, called or not.
	Agent string `json:"agent,omitzero"`
	// A word: circuit_breaker_open, timeout, status_503, upstream_unreachable, reference_missing, …
	Cause string `json:"cause"`
	// In words; of a refusal, the breaker's reason: open, probes_busy, …
	Reason string `json:"reason"`
	// Of a refusal.
	RetryAfterSeconds int64 `json:"retry_after_seconds,omitzero"`
	// Absent when it is not of one step.
	Step string `json:"step,omitzero"`
}

// problem is the body of an answer that is no success, an Error to callers.
type problem struct {
	Agent string `json:"agent,omitzero"`
	// Of a workflow: why, in a word.
	Cause string `json:"cause,omitzero"`
	// What clients may rely on.
	Code Code `json:"code"`
	// Refused by this replica alone, because Redis is down.
	Degraded bool   `json:"degraded,omitzero"`
	Detail   string `json:"detail"`
	// Each bad value; empty for problems of another kind.
	Errors    []FieldError `json:"errors,omitzero"`
	Execution *Execution   `json:"execution,omitzero"`
	// Of an agent that is not known: the known names that are nearest to its name.
	Nearest []string `json:"nearest,omitzero"`
	// Of a refusal: open, forced_open, probes_busy, ramping, …
	Reason            string `json:"reason,omitzero"`
	RetryAfterSeconds int64  `json:"retry_after_seconds,omitzero"`
	// One of OPEN, HALF_OPEN.
	State  string `json:"state,omitzero"`
	Status int64  `json:"status"`
	// Of a workflow: the step that stopped it.
	Step  string `json:"step,omitzero"`
	Title string `json:"title"`
	// urn:breakerd:problem: and the code.
	Type string `json:"type"`
}

// FieldError says what is wrong with one value that was sent.
type FieldError struct {
	// body.reason, query.limit, header.X-Actor.
	Location string `json:"location,omitzero"`
	Message  string `json:"message"`
	// What was sent, shortened.
	Value string `json:"value,omitzero"`
}
