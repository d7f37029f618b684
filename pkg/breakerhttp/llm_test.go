package breakerhttp

import (
	"net/http"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	openAIChunk = `{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}`
	openAIStop  = `{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	geminiChunk = `{"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"index":0}],"modelVersion":"m"}`
	geminiStop  = `{"candidates":[{"content":{"parts":[{"text":"."}]},"finishReason":"STOP"}],"modelVersion":"m"}`
	ollamaChunk = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Hi"},"done":false}`
	ollamaDone  = `{"model":"m","message":{"role":"assistant","content":""},"done_reason":"stop","done":true}`
	created     = `{"type":"response.created","response":{"id":"r","status":"in_progress","error":null}}`
	startOf     = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"stop_reason\":null}}\n\n"
	stopOf      = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	overloaded  = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
)

func anthropic(events ...string) string {
	return startOf + "event: ping\ndata: {\"type\": \"ping\"}\n\n" + strings.Join(events, "")
}

func TestReading_LLM(t *testing.T) { // FIELD G7
	t.Parallel()
	const incomplete = "failure incomplete_stream"
	conform(t, LLM, []answer{
		// Documents.
		{"completion", asJSON, `{"object":"chat.completion","choices":[{"message":{"content":"error"},"finish_reason":"stop"}]}`, "", false},
		{"embedding needs no end mark", asJSON, `{"object":"list","data":[{"object":"embedding","embedding":[0.1]}]}`, "", false},
		{"openai, server", asJSON, `{"error":{"message":"x","type":"server_error","param":null,"code":null}}`, "failure llm_error_500", false},
		{"openai, rate", asJSON, `{"error":{"message":"x","type":"tokens","code":"rate_limit_exceeded"}}`, "failure llm_error_429", false},
		{"openai, quota", asJSON, `{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}`, "failure llm_error_429", false},
		{"openai, the caller's", asJSON, `{"error":{"type":"invalid_request_error","code":"unknown_word"}}`, "ignored llm_error_400", false},
		{"openai, context", asJSON, `{"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}`, "ignored llm_error_400", false},
		{"openai, key", asJSON, `{"error":{"type":"invalid_request_error","code":"invalid_api_key"}}`, "ignored llm_error_401", false},
		{"code before type", asJSON, `{"error":{"type":"invalid_request_error","code":"rate_limit_exceeded"}}`, "failure llm_error_429", false},
		{"number before word", asJSON, `{"error":{"type":"invalid_request_error","code":503}}`, "failure llm_error_503", false},
		{"number as a text", asJSON, `{"error":{"message":"x","code":"429"}}`, "failure llm_error_429", false},
		{"status", asJSON, `{"error":{"message":"x","status":404}}`, "ignored llm_error_404", false},
		{"vllm", asJSON, `{"object":"error","message":"x","type":"BadRequestError","param":null,"code":400}`, "ignored llm_error_400", false},
		{"vllm, internal", asJSON, `{"object":"error","message":"x","type":"InternalServerError"}`, "failure llm_error_500", false},
		{"anthropic", asJSON, `{"type":"error","error":{"type":"api_error","message":"x"},"request_id":"r"}`, "failure llm_error_500", false},
		{"anthropic, the caller's", asJSON, `{"type":"error","error":{"type":"permission_error"}}`, "ignored llm_error_403", false},
		{"anthropic, large", asJSON, `{"type":"error","error":{"type":"request_too_large"}}`, "ignored llm_error_413", false},
		{"google", asJSON, `{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED"}}`, "failure llm_error_429", false},
		{"google, word", asJSON, `{"error":{"message":"x","status":"INVALID_ARGUMENT"}}`, "ignored llm_error_400", false},
		{"google, array", asJSON, "[" + geminiChunk + "\n,\r\n" + `{"error":{"code":503,"status":"UNAVAILABLE"}}]`, "failure llm_error_503", false},
		{"ollama", asJSON, `{"error":"model runner has unexpectedly stopped"}`, "failure llm_error", false},
		{"openrouter", asJSON, `{"choices":[{"error":{"code":502,"message":"x"},"finish_reason":"error"}]}`, "failure llm_error_502", false},
		{"status beside the text", asJSON, `{"error":"Too many","status":429}`, "failure llm_error_429", false},
		{"code out of range", asJSON, `{"error":{"code":40303}}`, "failure llm_error", false},
		{"code of no status", asJSON, `{"error":{"code":588}}`, "failure llm_error", false},
		{"code of no status, the caller's", asJSON, `{"error":{"code":488}}`, "ignored llm_error", false},
		{"code of success", asJSON, `{"error":{"code":200}}`, "failure llm_error", false},
		{"code is hostile", asJSON, `{"error":{"code":"` + strings.Repeat("x", 100) + `","type":["\n"]}}`, "failure llm_error", false},
		{"no error", asJSON, `{"id":"r","object":"response","status":"completed","error":null}`, "", false},
		{"empty errors", asJSON, `[{"error":""},{"error":false},{"error":{}},{"error":[]},{"error":0},{"error":null}]`, "", false},
		{"error of nothing", asJSON, `{"error":{"code":null,"type":"","param":[],"status":0,"x":{}}}`, "", false},
		{"mark of bytes", asJSON, "\ufeff" + `{"error":{"code":500}}`, "failure llm_error_500", false},
		{"error is true", asJSON, `{"error":true,"message":"x"}`, "failure llm_error", false},
		{"response failed", asJSON, `{"object":"response","status":"failed","error":{"code":"server_error"}}`, "failure llm_error_500", false},
		{"response failed, no error", asJSON, `{"object":"response","status":"failed"}`, "failure llm_error", false},
		{"response incomplete", asJSON, `{"object":"response","status":"incomplete","error":null}`, "", false},
		{"record of a job", asJSON, `{"object":"fine_tuning.job","status":"failed","error":{"code":"invalid_training_file"}}`, "", false},
		{"object of another name", asJSON, `{"object":"completion.part","error":{"code":500}}`, "failure llm_error_500", false},
		{"error in a text", asJSON, `{"choices":[{"message":{"content":"{\"error\":{\"code\":500}}"}}]}`, "", false},
		{"other type", "text/html", "<error>", "", true},
		{"audio", "audio/mpeg", "\x00\x01", "", true},

		// Events.
		{"openai, stream", asSSE, sse(openAIChunk, openAIStop, "[DONE]"), "", true},
		{"openai, only DONE", asSSE, sse(openAIChunk, "[DONE]"), "", true},
		{"openai, no DONE", asSSE, sse(openAIChunk, openAIStop), "", true},
		{"openai, DONE without a line", asSSE, sse(openAIChunk) + "data: [DONE]", "", true},
		{"openai, cut", asSSE, sse(openAIChunk, openAIChunk), incomplete, true},
		{"openai, empty reason", asSSE, sse(strings.Replace(openAIStop, `"stop"`, `""`, 1)), incomplete, true},
		{"no event", asSSE, "", incomplete, false},
		{"only comments", asSSE, ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n", incomplete, false},
		{"no JSON", asSSE, sse("hello"), incomplete, true},
		{"openai, error first", asSSE, sse(`{"error":{"message":"x","code":"server_error"}}`), "failure llm_error_500", false},
		{"openai, error between", asSSE, sse(openAIChunk, `{"error":{"message":"x","code":502}}`, "[DONE]"), "failure llm_error_502", false},
		{"openai, the caller's, events", asSSE, sse(`{"error":{"message":"x","type":"invalid_request_error"}}`), "ignored llm_error_400", false},
		{"the caller's does not hide a failure", asSSE, sse(`{"error":{"code":400}}`, `{"error":{"code":500}}`), "failure llm_error_500", false},
		{"finish reason error", asSSE, sse(openAIChunk, strings.Replace(openAIStop, "stop", "error", 1), "[DONE]"), "failure llm_error", false},
		{"one choice of two", asSSE, sse(`{"choices":[{"finish_reason":"error"},{"finish_reason":"stop"}]}`), "failure llm_error", false},
		{"content filter is an end", asSSE, sse(openAIChunk, strings.Replace(openAIStop, "stop", "content_filter", 1)), "", true},
		{"document for events", asSSE, `{"error":{"message":"x","code":"model_not_found"}}`, "ignored llm_error_404", false},
		{"document for events, fine", asSSE, `{"object":"chat.completion","choices":[]}`, "", false},
		{"events for a document", asJSON, sse(openAIChunk, "[DONE]"), "", true},
		{"responses", asSSE, "event: response.created\n" + sse(created) + "event: response.completed\n" + sse(`{"type":"response.completed","response":{"status":"completed","error":null}}`), "", true},
		{"responses, incomplete", asSSE, sse(created, `{"type":"response.incomplete","response":{"status":"incomplete"}}`), "", true},
		{"responses, failed", asSSE, sse(created, `{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded"}}}`), "failure llm_error_429", false},
		{"responses, failed, the caller's", asSSE, sse(created, `{"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}`), "ignored llm_error_400", true},
		{"responses, error", asSSE, sse(created, `{"type":"error","code":"server_error","message":"x","param":null}`), "failure llm_error_500", false},
		{"responses, cut", asSSE, sse(created, `{"type":"response.output_text.done","text":"Hi"}`), incomplete, true},
		{"anthropic, stream", asSSE, anthropic(stopOf), "", true},
		{"anthropic, cut", asSSE, anthropic("event: content_block_stop\ndata: {\"type\":\"content_block_stop\"}\n\n"), incomplete, true},
		{"anthropic, error", asSSE, anthropic(overloaded), "failure llm_error_529", false},
		{"anthropic, error first", asSSE, overloaded, "failure llm_error_529", false},
		{"event error, no JSON", asSSE, "event: error\ndata: upstream is gone\n\n", "failure llm_error", false},
		{"event error, no data", asSSE, sse(openAIChunk) + "event: error\n\n", "failure llm_error", false},
		{"event error, plain", asSSE, "event:error\n:HTTP_STATUS/400\ndata:{\"code\":\"InvalidParameter\",\"message\":\"x\"}\n\n", "ignored llm_error_400", false},
		{"gemini", asSSE, sse(geminiChunk, geminiStop), "", true},
		{"gemini, cut", asSSE, sse(geminiChunk), incomplete, true},
		{"gemini, blocked", asSSE, sse(`{"promptFeedback":{"blockReason":"SAFETY"}}`), "", true},
		{"reason beside the choices", asSSE, sse(`{"text":"x","finish_reason":"COMPLETE"}`), "", true},
		{"error beside the choices", asSSE, sse(`{"text":"x","finish_reason":"ERROR"}`), "failure llm_error", false},
		{"gemini, error", asSSE, sse(geminiChunk, `{"error":{"code":500,"status":"INTERNAL"}}`), "failure llm_error_500", false},
		{"text generation inference", asSSE, "data:{\"token\":{\"text\":\"x\"},\"generated_text\":\"x\",\"details\":{\"finish_reason\":\"length\"}}\n\n", "", true},
		{"text generation inference, caller's", asSSE, `data:{"error":"Input validation error","error_type":"validation"}` + "\n\n", "ignored llm_error_400", false},
		{"cohere", asSSE, "event: message-end\n" + sse(`{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}`), "", true},
		{"cohere, error", asSSE, sse(`{"type":"message-end","delta":{"finish_reason":"ERROR"}}`), "failure llm_error", false},
		{"llama.cpp", asSSE, sse(`{"content":"x","stop":false}`, `{"content":"","stop":true}`), "", true},

		// Lines.
		{"ollama, lines", asLines, ollamaChunk + "\n" + ollamaDone + "\n", "", true},
		{"ollama, no last line feed", asLines, ollamaChunk + "\n" + ollamaDone, "", true},
		{"ollama, cut", asLines, ollamaChunk + "\n" + ollamaChunk + "\n", incomplete, true},
		{"ollama, error", asLines, ollamaChunk + "\n" + `{"error":"unexpected EOF"}` + "\n", "failure llm_error", false},
		{"ollama, error only", "application/x-ndjson; charset=utf-8", `{"error":"x"}`, "failure llm_error", false},
		{"lines, nothing", asLines, "", incomplete, false},
		{"lines, blank", asLines, "\n\r\n \n", incomplete, false},
		{"lines, blank between", "application/jsonl", "\n\r\n" + ollamaChunk + "\r\n\n" + ollamaDone + "\r\n", "", true},
		{"lines of Spring", "application/stream+json", openAIChunk + "\n" + openAIStop + "\n", "", true},
		{"sequence", "application/json-seq", "\x1e{\n\"done\":false}\n\x1e{\n\"done\":true}\n", "", true},
		{"sequence, cut", "application/json-seq", "\x1e{\"done\":false}\n\x1e{\"done\":", incomplete, true},
	})
}

func TestLLMOutcome_CodeCountsAsStatusWould(t *testing.T) {
	t.Parallel()
	s := Statuses{Failure: []StatusRange{{401, 401}}, Ignored: []StatusRange{{429, 429}}}
	for text, want := range map[string]breaker.OutcomeKind{
		`{"error":{"type":"authentication_error"}}`: breaker.Failure,
		`{"error":{"code":401}}`:                    breaker.Failure,
		`{"error":{"type":"rate_limit_error"}}`:     breaker.Ignored,
		`{"error":{"type":"overloaded_error"}}`:     breaker.Failure,
		`{"error":{"type":"NotFoundError"}}`:        breaker.Ignored,
		`{"error":{"code":501}}`:                    breaker.Ignored,
	} {
		if o, _ := llmOutcome(message{text: []byte(text)}, s); o.Kind != want {
			t.Errorf("%s: %+v, want %s", text, o, want)
		}
	}
}

func TestReading_FailureBringsRetryAfter(t *testing.T) {
	t.Parallel()
	h := http.Header{"Content-Type": {asJSON}, "Retry-After": {"7"}}
	r := newReading(LLM, Statuses{}, &http.Response{Header: h})
	r.read([]byte(`{"error":{"code":429}}`))
	r.finish()
	if o, _ := r.found(); o.RetryAfter.Seconds() != 7 {
		t.Errorf("%+v", o)
	}
}

func TestWordStatus(t *testing.T) {
	t.Parallel()
	for status, words := range map[int]string{
		400: "invalid_request_error BadRequestError INVALID_ARGUMENT FAILED_PRECONDITION ValidationException context_length_exceeded content_filter InvalidParameter",
		401: "authentication_error UNAUTHENTICATED invalid_api_key Unauthorized",
		402: "billing_error",
		403: "permission_error PERMISSION_DENIED AccessDeniedException",
		404: "not_found_error NotFoundError model_not_found ResourceNotFoundException",
		409: "ALREADY_EXISTS ABORTED",
		413: "request_too_large",
		422: "UnprocessableEntityError",
		499: "CANCELLED",
		429: "rate_limit_error RateLimitError rate_limit_exceeded RESOURCE_EXHAUSTED insufficient_quota ThrottlingException",
		500: "api_error server_error INTERNAL InternalServerError UNKNOWN",
		501: "UNIMPLEMENTED",
		503: "UNAVAILABLE ServiceUnavailableException",
		504: "timeout_error DEADLINE_EXCEEDED",
		529: "overloaded_error engine_overloaded",
		0:   "error tokens odd",
	} {
		for word := range strings.FieldsSeq(words) {
			if got := wordStatus(word); got != status {
				t.Errorf("%s: %d, want %d", word, got, status)
			}
		}
	}
}
