package breakerhttp

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// statusOverloaded is Anthropic's status of an API that is overloaded.
const statusOverloaded = 529

// llmOutcome is the outcome of what an LLM provider sends: a document, an event or a line. marked: it is the end mark
// of a stream. An array, as Gemini sends in place of a stream, is its elements.
func llmOutcome(m message, s Statuses) (worst breaker.Outcome, marked bool) {
	if m.text == nil {
		one := llmMessage{kind: m.name}
		return one.outcome(m.name, s), one.isEnd()
	}
	for text := range messages(m.text) {
		one := parseLLM(m.name, text)
		worst = worse(worst, one.outcome(m.name, s))
		marked = marked || one.isEnd()
	}
	return worst, marked
}

// llmMessage is what of a message says how the call went.
type llmMessage struct {
	text   []byte
	kind   string // OpenAI's and Anthropic's type, which is also the name of the event
	object string
	status string
	fault  []byte // the value of error
	failed []byte // OpenAI's response, which has an error of its own
	finish string // why the model has stopped, in a choice, a candidate or the message
	done   bool
}

func parseLLM(event string, text []byte) (m llmMessage) {
	m.text, m.kind = text, event
	for name, value := range members(text) {
		switch string(name) {
		case "type", "event_type":
			m.kind = stringOf(value)
		case "object":
			m.object = stringOf(value)
		case "status":
			m.status = stringOf(value)
		case "error":
			if isFault(value) {
				m.fault = value
			}
		case "response":
			m.failed = member(value, "error")
		case "finish_reason", "finishReason", "stop_reason":
			m.stop(value)
		case "choices", "candidates":
			for choice := range elements(value) {
				m.choice(choice)
			}
		case "delta", "details": // Cohere, Text Generation Inference
			m.stop(member(value, "finish_reason"))
		case "promptFeedback": // Gemini has no candidates for a prompt that it blocks
			m.stop(member(value, "blockReason"))
		case "done", "is_finished", "stop": // Ollama, Cohere, llama.cpp
			m.done = m.done || string(value) == "true"
		}
	}
	return m
}

// choice reads a choice or a candidate.
func (m *llmMessage) choice(text []byte) {
	for name, value := range members(text) {
		switch string(name) {
		case "finish_reason", "finishReason", "stop_reason":
			m.stop(value)
		case "error": // OpenRouter
			if isFault(value) {
				m.fault = value
			}
		}
	}
}

// stop notes a reason to stop. Of several choices, an error counts most.
func (m *llmMessage) stop(reason []byte) {
	if s := stringOf(reason); s != "" && !strings.EqualFold(m.finish, "error") {
		m.finish = s
	}
}

// isFault says that the value of error is one. Where there is none, providers send null, others "", false, {} or an
// object of such values.
func isFault(value []byte) bool {
	for _, v := range members(value) {
		if isSome(v) {
			return true
		}
	}
	return !isObject(value) && !isArray(value) && isSome(value)
}

// isSome says that a value is not null, false, zero or empty.
func isSome(value []byte) bool {
	switch string(value) {
	case "", "null", "false", "{}", "[]":
		return false
	}
	if n, ok := numberOf(value); ok {
		return n != 0
	}
	return !isString(value) || stringOf(value) != ""
}

func (m *llmMessage) outcome(event string, s Statuses) (o breaker.Outcome) {
	fault := m.fault
	switch {
	case event == "error", m.kind == "error", m.object == "error":
	case m.kind == "response.failed", m.object == "response" && m.status == "failed":
		if isFault(m.failed) {
			fault = m.failed
		}
	case strings.EqualFold(m.finish, "error"):
	case fault == nil, m.isRecord():
		return o
	}
	status := faultStatus(fault)
	if status == 0 {
		status = faultStatus(m.text)
	}
	if status == 0 {
		return breaker.Outcome{Kind: breaker.Failure, Class: "llm_error"}
	}
	o = breaker.Outcome{Kind: s.kind(status), Class: "llm_error"}
	if http.StatusText(status) != "" || status == statusOverloaded { // the others would be as many as the agent likes
		o.Class += "_" + strconv.Itoa(status)
	}
	return o
}

// isRecord says that the message is about something that the provider keeps, as a batch or a fine-tuning job: its error
// says how that went, and not this call.
func (m *llmMessage) isRecord() bool {
	return m.object != "" && m.object != "response" && m.status != ""
}

// isEnd says that the message is the last of its stream, or the last but for what is not needed.
func (m *llmMessage) isEnd() bool {
	switch m.kind {
	case "response.completed", "response.incomplete", "message_stop", "image_generation.completed",
		"image_edit.completed", "speech.audio.done", "transcript.text.done":
		return true
	}
	return m.done || m.finish != ""
}

// faultStatus is the status that an error stands for; 0: none that is known. A number counts before a word, and a code
// before a type.
func faultStatus(fault []byte) int {
	if status := statusOf(fault); status != 0 || !isObject(fault) {
		return status
	}
	var byName [5]int
	for name, value := range members(fault) {
		switch string(name) {
		case "code":
			byName[0] = statusOf(value)
		case "status", "status_code", "http_code", "http_status":
			byName[1] = statusOf(value)
		case "type":
			byName[2] = statusOf(value)
		case "error_type":
			byName[3] = statusOf(value)
		}
	}
	for _, status := range byName {
		if status != 0 {
			return status
		}
	}
	return 0
}

// statusOf is the status that a number or a word is; 0: it is neither.
func statusOf(value []byte) int {
	n, ok := numberOf(value)
	if !ok {
		word := stringOf(value)
		if parsed, err := strconv.Atoi(word); err == nil {
			n = float64(parsed)
		} else {
			return wordStatus(word)
		}
	}
	if n >= 400 && n <= 599 {
		return int(n)
	}
	return 0
}

// wordStatus is the status with which providers send an error of that word, in any of their spellings:
// rate_limit_error, RateLimitError, rate_limit_exceeded. Every other word counts as a failure.
func wordStatus(word string) int {
	if len(word) > maxName {
		return 0
	}
	word = strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(strings.ToLower(word))
	word = strings.TrimSuffix(strings.TrimSuffix(word, "error"), "exception")
	switch word {
	case "invalidrequest", "badrequest", "invalidargument", "invalidparameter", "invalidprompt", "invalidvalue",
		"failedprecondition", "outofrange", "validation", "contextlengthexceeded", "contextwindowexceeded",
		"contentfilter", "contentpolicyviolation", "contentpolicy", "unsupportedparameter", "unsupportedvalue",
		"missingrequiredparameter", "stringabovemaxlength", "invalidimage", "invalidimageformat", "invalidimageurl",
		"invalidbase64image", "imagetoolarge", "imagetoosmall", "imageparse", "imagecontentpolicyviolation",
		"unsupportedimagemediatype", "emptyimagefile", "failedtodownloadimage":
		return http.StatusBadRequest
	case "authentication", "unauthenticated", "unauthorized", "invalidapikey":
		return http.StatusUnauthorized
	case "billing", "paymentrequired":
		return http.StatusPaymentRequired
	case "permission", "permissiondenied", "forbidden", "accessdenied":
		return http.StatusForbidden
	case "notfound", "modelnotfound", "resourcenotfound", "imagefilenotfound":
		return http.StatusNotFound
	case "conflict", "alreadyexists", "aborted":
		return http.StatusConflict
	case "requesttoolarge", "payloadtoolarge":
		return http.StatusRequestEntityTooLarge
	case "unprocessableentity":
		return http.StatusUnprocessableEntity
	case "cancelled", "canceled":
		return 499
	case "ratelimit", "ratelimitexceeded", "toomanyrequests", "resourceexhausted", "insufficientquota",
		"quotaexceeded", "throttling":
		return http.StatusTooManyRequests
	case "api", "server", "internal", "internalserver", "unknown":
		return http.StatusInternalServerError
	case "unimplemented", "notimplemented":
		return http.StatusNotImplemented
	case "unavailable", "serviceunavailable":
		return http.StatusServiceUnavailable
	case "timeout", "deadlineexceeded", "gatewaytimeout":
		return http.StatusGatewayTimeout
	case "overloaded", "engineoverloaded":
		return statusOverloaded
	}
	return 0
}
