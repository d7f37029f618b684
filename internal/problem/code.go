package problem

import "net/http"

// Code is a problem's stable name. Clients may rely on it, not on texts.
type Code string

// The codes. Code.Status is their table.
const (
	AgentAddressDenied   Code = "agent_address_denied"
	AgentConflict        Code = "agent_conflict"
	AgentFailed          Code = "agent_failed"
	AgentHasNoURL        Code = "agent_has_no_url"
	AgentInFile          Code = "agent_in_file"
	ActionUnknown        Code = "action_unknown"
	AgentUnknown         Code = "agent_unknown"
	BackupBroken         Code = "backup_broken"
	BackupForeign        Code = "backup_foreign"
	BackupNewer          Code = "backup_newer"
	BodyRequired         Code = "body_required"
	BodyTooLarge         Code = "body_too_large"
	CircuitBreakerOpen   Code = "circuit_breaker_open"
	ConfigAbsent         Code = "config_absent"
	ConfigInvalid        Code = "config_invalid"
	CrossOrigin          Code = "cross_origin"
	ExecutionCancelled   Code = "execution_cancelled"
	ExecutionUnknown     Code = "execution_unknown"
	Forbidden            Code = "forbidden"
	ForbiddenAgent       Code = "forbidden_agent"
	GateHeaderRequired   Code = "gate_header_required"
	HoldExists           Code = "hold_exists"
	HoldProtected        Code = "hold_protected"
	HostNotAllowed       Code = "host_not_allowed"
	InputMissing         Code = "input_missing"
	Internal             Code = "internal"
	InvalidActionID      Code = "invalid_action_id"
	InvalidAgentName     Code = "invalid_agent_name"
	InvalidBody          Code = "invalid_body"
	InvalidExecutionID   Code = "invalid_execution_id"
	InvalidJSON          Code = "invalid_json"
	InvalidPath          Code = "invalid_path"
	InvalidPermit        Code = "invalid_permit"
	InvalidToken         Code = "invalid_token"
	InvalidValue         Code = "invalid_value"
	InvalidWorkflowID    Code = "invalid_workflow_id"
	LeaseLost            Code = "lease_lost"
	LoopDetected         Code = "loop_detected"
	MethodNotAllowed     Code = "method_not_allowed"
	MoreThanExpected     Code = "more_than_expected"
	NotFound             Code = "not_found"
	NotHeld              Code = "not_held"
	NotReady             Code = "not_ready"
	Overloaded           Code = "overloaded"
	PreconditionFailed   Code = "precondition_failed"
	PreconditionRequired Code = "precondition_required"
	RateLimited          Code = "rate_limited"
	RequestTimeout       Code = "request_timeout"
	StoreUnavailable     Code = "store_unavailable"
	TooManyAgents        Code = "too_many_agents"
	TooManyConnections   Code = "too_many_connections"
	TooManyExecutions    Code = "too_many_executions"
	TooManyStreams       Code = "too_many_streams"
	TooManyWorkflows     Code = "too_many_workflows"
	Unauthenticated      Code = "unauthenticated"
	UnsupportedMediaType Code = "unsupported_media_type"
	UpstreamTimeout      Code = "upstream_timeout"
	UpstreamUnreachable  Code = "upstream_unreachable"
	WorkflowInDirectory  Code = "workflow_in_directory"
	WorkflowInvalid      Code = "workflow_invalid"
	WorkflowMemory       Code = "workflow_memory"
	WorkflowTimeout      Code = "workflow_timeout"
	WorkflowUnknown      Code = "workflow_unknown"
)

// Status is the HTTP status of a problem with this code; 0: the code is not ours. A refusal may have another status.
func (c Code) Status() int {
	switch c {
	case BodyRequired, InvalidActionID, InvalidAgentName, InvalidBody, InvalidExecutionID, InvalidJSON, InvalidPath,
		InvalidWorkflowID:
		return http.StatusBadRequest
	case InvalidToken, Unauthenticated:
		return http.StatusUnauthorized
	case CrossOrigin, Forbidden, ForbiddenAgent, GateHeaderRequired:
		return http.StatusForbidden
	case ActionUnknown, AgentHasNoURL, AgentUnknown, ConfigAbsent, ExecutionUnknown, NotFound, WorkflowUnknown:
		return http.StatusNotFound
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case RequestTimeout:
		return http.StatusRequestTimeout
	case AgentConflict, AgentInFile, ConfigInvalid, HoldExists, HoldProtected, LeaseLost, MoreThanExpected,
		NotHeld, TooManyWorkflows, WorkflowInDirectory:
		return http.StatusConflict
	case PreconditionFailed:
		return http.StatusPreconditionFailed
	case BodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case UnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case HostNotAllowed:
		return http.StatusMisdirectedRequest
	case BackupBroken, BackupForeign, BackupNewer, InputMissing, InvalidPermit, InvalidValue, WorkflowInvalid:
		return http.StatusUnprocessableEntity
	case PreconditionRequired:
		return http.StatusPreconditionRequired
	case CircuitBreakerOpen, RateLimited, TooManyAgents:
		return http.StatusTooManyRequests
	case Internal:
		return http.StatusInternalServerError
	case AgentAddressDenied, AgentFailed, UpstreamUnreachable:
		return http.StatusBadGateway
	case ExecutionCancelled, NotReady, Overloaded, StoreUnavailable, TooManyConnections, TooManyExecutions,
		TooManyStreams, WorkflowMemory:
		return http.StatusServiceUnavailable
	case LoopDetected:
		return http.StatusLoopDetected
	case UpstreamTimeout, WorkflowTimeout:
		return http.StatusGatewayTimeout
	}
	return 0
}
