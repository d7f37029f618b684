package demo

import (
	"fmt"
	"net/http"
)

// code is a problem's stable name; clients may rely on it, not on texts.
type code string

const (
	codeBodyRequired         code = "body_required"
	codeBodyTooLarge         code = "body_too_large"
	codeInvalidAgentName     code = "invalid_agent_name"
	codeInvalidJSON          code = "invalid_json"
	codeInvalidValue         code = "invalid_value"
	codeMethodNotAllowed     code = "method_not_allowed"
	codeNotFound             code = "not_found"
	codeTooManyAgents        code = "too_many_agents"
	codeUnsupportedMediaType code = "unsupported_media_type"
)

func statuses() map[code]int {
	return map[code]int{
		codeBodyRequired:         http.StatusBadRequest,
		codeBodyTooLarge:         http.StatusRequestEntityTooLarge,
		codeInvalidAgentName:     http.StatusBadRequest,
		codeInvalidJSON:          http.StatusBadRequest,
		codeInvalidValue:         http.StatusUnprocessableEntity,
		codeMethodNotAllowed:     http.StatusMethodNotAllowed,
		codeNotFound:             http.StatusNotFound,
		codeTooManyAgents:        http.StatusConflict,
		codeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	}
}

// problem is every refusal of the demo agent's own (RFC 9457); what an agent was told to answer is not one.
type problem struct {
	Type   string `json:"type"` // urn:breakerd:problem: and the code
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   code   `json:"code"`
}

func newProblem(c code, format string, args ...any) *problem {
	status := statuses()[c]
	return &problem{"urn:breakerd:problem:" + string(c), http.StatusText(status), status, fmt.Sprintf(format, args...), c}
}

func (p *problem) write(w http.ResponseWriter) { writeJSON(w, p.Status, "application/problem+json", p) }
