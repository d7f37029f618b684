package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// judged is one kind of answer: what each call of an agent that gives it counts as.
type judged struct {
	name   string
	fields string
	policy string
	serve  http.HandlerFunc
	want   string // outcome and class, or the outcome alone
	status int    // 0: 200
}

// judge calls each agent five times, which is the threshold. The breaker opens if, and only if, the calls are failures.
func judge(t *testing.T, rows []judged) {
	t.Helper()
	var agents []fieldAgent
	for _, row := range rows {
		agents = append(agents, fieldAgent{name: row.name, serve: row.serve, fields: row.fields, policy: row.policy})
	}
	f := inFront(t, nil, agents...)
	for _, row := range rows {
		status := max(row.status, 200)
		for range 5 {
			f.post(row.name, "/run").want(status)
		}
		f.awaitEnded(row.name, 5, row.want)
		if strings.HasPrefix(row.want, "failure") {
			f.wantState(row.name, "OPEN")
			continue
		}
		f.wantState(row.name, "CLOSED")
		if v := f.breakerOf(row.name, "totals.failures"); v != 0.0 {
			t.Errorf("%s: %v failures were counted", row.name, v)
		}
	}
}

func rpc(member string) http.HandlerFunc {
	return answerJSON(`{"jsonrpc":"2.0","id":1,` + member + `}`)
}

func rpcError(code string) string { return `"error":{"code":` + code + `,"message":"m"}` }

const (
	asRPC    = `"classify":"jsonrpc"`
	asMCP    = `"classify":"mcp"`
	asStrict = `"classify":"mcp_strict"`
	asLLM    = `"classify":"llm"`
	asGRPC   = `"classify":"grpc"`
	asAuto   = `"classify":"auto"`
)

// TestField_ACallersOwnMistakeIsNotTheAgents is row G6: hermes-agent 11113 and 47851.
func TestField_ACallersOwnMistakeIsNotTheAgents(t *testing.T) {
	t.Parallel()
	batch := func(members ...string) http.HandlerFunc {
		return answerJSON(`[{"jsonrpc":"2.0","id":1,` + strings.Join(members, `},{"jsonrpc":"2.0","id":2,`) + `}]`)
	}
	tool := `"result":{"content":[{"type":"text","text":"old_text not found"}],"isError":true}`
	judge(t, []judged{
		{name: "params", fields: asRPC, serve: rpc(rpcError("-32602")), want: "ignored"},
		{name: "method", fields: asMCP, serve: rpc(rpcError("-32601")), want: "ignored"},
		{name: "request", fields: asRPC, serve: rpc(rpcError("-32600")), want: "ignored"},
		{name: "parse", fields: asMCP, serve: rpc(rpcError("-32700")), want: "ignored"},
		{name: "resource", fields: asMCP, serve: rpc(rpcError("-32002")), want: "ignored"},
		{name: "strict-params", fields: asStrict, serve: rpc(rpcError("-32602")), want: "ignored"},
		{name: "auto-params", fields: asAuto, serve: rpc(rpcError("-32602")), want: "ignored"},
		{name: "in-a-batch", fields: asRPC, serve: batch(rpcError("-32602"), `"result":{}`), want: "ignored"},
		{name: "whole-batch", fields: asMCP, serve: batch(rpcError("-32601"), rpcError("-32602")), want: "ignored"},
		{name: "as-an-event", fields: asMCP, serve: answer(200, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,"+
			rpcError("-32602")+"}\n\n", "Content-Type", "text/event-stream"), want: "ignored"},
		{name: "tool", fields: asMCP, serve: rpc(tool), want: "ignored"},
		{name: "tool-auto", fields: asAuto, serve: rpc(tool), want: "ignored"},
		{name: "tool-strict", fields: asStrict, serve: rpc(tool), want: "failure"},
		{name: "tool-rpc", fields: asRPC, serve: rpc(tool), want: "success"},
		{name: "empty", fields: asRPC, serve: rpc(`"error":"","result":1`), want: "success"},
		{name: "false", fields: asRPC, serve: rpc(`"error":false,"result":1`), want: "success"},
		{name: "object", fields: asMCP, serve: rpc(`"error":{},"result":1`), want: "success"},
		{name: "null", fields: asMCP, serve: rpc(`"error":null,"result":1`), want: "success"},
		{name: "list", fields: asRPC, serve: rpc(`"error":[],"result":1`), want: "success"},
		{name: "text", fields: asRPC, serve: rpc(`"error":"none","result":1`), want: "success"},
		{name: "code-is-text", fields: asRPC, serve: rpc(`"error":{"code":"-32000"},"result":1`), want: "success"},
		{name: "server", fields: asRPC, serve: rpc(rpcError("-32000")), want: "failure"},
		{name: "internal", fields: asMCP, serve: rpc(rpcError("-32603")), want: "failure"},
		{name: "server-auto", fields: asAuto, serve: rpc(rpcError("-32603")), want: "failure"},
		{name: "batch-server", fields: asRPC, serve: batch(rpcError("-32602"), rpcError("-32000")), want: "failure"},
	})
}

// events is an agent that streams events, each by itself.
func events(kind string, parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", kind)
		flush(w, append([]string{""}, parts...)...)
	}
}

func compressed(coding, kind, text string) http.HandlerFunc {
	var b bytes.Buffer
	var z io.WriteCloser = gzip.NewWriter(&b)
	if coding == "deflate" {
		z = zlib.NewWriter(&b)
	}
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return answer(200, b.String(), "Content-Type", kind, "Content-Encoding", coding)
}

// TestField_ErrorsInsideA200Count is row G7: claude-code-router 1759, litellm 36768 and 40260.
func TestField_ErrorsInsideA200Count(t *testing.T) {
	t.Parallel()
	const sse, nd = "text/event-stream", "application/x-ndjson"
	const openAI = `data: {"choices":[{"delta":{"content":"Hel"}}]}` + "\n\n"
	const openAIError = `data: {"error":{"message":"The server is overloaded","type":"server_error","code":503}}` + "\n\n"
	const anthropic = "event: message_start\n" + `data: {"type":"message_start","message":{"id":"m"}}` + "\n\n"
	const anthropicError = "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}` + "\n\n"
	const response = "event: response.created\n" + `data: {"type":"response.created","response":{"id":"r","error":null}}` + "\n\n"
	const responseError = "event: response.failed\n" +
		`data: {"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"server_error","message":"x"}}}` + "\n\n"
	rows := []judged{
		{name: "openai", fields: asLLM, serve: events(sse, openAI, openAIError, "data: [DONE]\n\n"), want: "failure"},
		{name: "openai-auto", fields: asAuto, serve: events(sse, openAI, openAIError, "data: [DONE]\n\n"), want: "failure"},
		{name: "anthropic", fields: asLLM, serve: events(sse, anthropic, anthropicError), want: "failure"},
		{name: "anthropic-auto", fields: asAuto, serve: events(sse, anthropic, anthropicError), want: "failure"},
		{name: "responses", fields: asLLM, serve: events(sse, response, responseError), want: "failure"},
		{name: "json", fields: asLLM, serve: answerJSON(`{"error":{"message":"upstream provider unavailable","code":502}}`), want: "failure"},
		{name: "ndjson", fields: asLLM, serve: events(nd, `{"response":"He"}`+"\n", `{"error":"model runner has unexpectedly stopped"}`+"\n"), want: "failure"},
		{name: "finish", fields: asLLM, serve: events(sse, openAI, `data: {"choices":[{"delta":{},"finish_reason":"error"}]}`+"\n\n", "data: [DONE]\n\n"), want: "failure"},
		{name: "one-write", fields: asLLM, serve: events(sse, openAI+openAIError+"data: [DONE]\n\n"), want: "failure"},
		{name: "bytewise", fields: asLLM, serve: events(sse, strings.Split(openAI+openAIError, "")...), want: "failure"},
		{name: "crlf", fields: asLLM, serve: events(sse, strings.ReplaceAll(openAI+openAIError, "\n", "\r\n")), want: "failure"},
		{name: "no-done", fields: asLLM, serve: events(sse, openAI), want: "failure incomplete_stream"},
		{name: "no-stop", fields: asLLM, serve: events(sse, anthropic), want: "failure incomplete_stream"},
		{name: "no-completed", fields: asLLM, serve: events(sse, response), want: "failure incomplete_stream"},
		{name: "no-event", fields: asLLM, serve: events(sse), want: "failure incomplete_stream"},
		{name: "only-pings", fields: asLLM, serve: events(sse, ": ping\n\n", ": ping\n\n"), want: "failure incomplete_stream"},
		{name: "no-line", fields: asLLM, serve: events(nd), want: "failure incomplete_stream"},
		{name: "not-done", fields: asLLM, serve: events(nd, `{"response":"He","done":false}`+"\n"), want: "failure incomplete_stream"},
		{name: "gzip", fields: asLLM, serve: compressed("gzip", sse, openAI+openAIError), want: "failure"},
		{name: "deflate", fields: asLLM, serve: compressed("deflate", "application/json", `{"error":{"message":"m","code":503}}`), want: "failure"},
		{name: "gzip-rpc", fields: asRPC, serve: compressed("gzip", "application/json", `{"jsonrpc":"2.0","id":1,`+rpcError("-32000")+`}`), want: "failure"},
		{name: "gzip-cut", fields: asLLM, serve: compressed("gzip", sse, openAI), want: "failure incomplete_stream"},
		// A code that is the caller's own decides as its status would.
		{name: "bad-request", fields: asLLM, serve: answerJSON(`{"error":{"message":"m","type":"invalid_request_error","code":400}}`), want: "ignored"},
		{name: "limited", fields: asLLM, serve: answerJSON(`{"error":{"message":"m","code":429}}`), want: "failure"},
		// What ends well is none.
		{name: "done", fields: asLLM, serve: events(sse, openAI, "data: [DONE]\n\n"), want: "success"},
		{name: "stop", fields: asLLM, serve: events(sse, anthropic, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), want: "success"},
		{name: "completed", fields: asAuto, serve: events(sse, openAI, `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`+"\n\n"), want: "success"},
		{name: "gemini", fields: asLLM, serve: events(sse, `data: {"candidates":[{"content":{},"finishReason":"STOP"}]}`+"\n\n"), want: "success"},
		{name: "ollama", fields: asLLM, serve: events(nd, `{"response":"He","done":false}`+"\n", `{"response":"","done":true}`+"\n"), want: "success"},
		{name: "gzip-done", fields: asLLM, serve: compressed("gzip", sse, openAI+"data: [DONE]\n\n"), want: "success"},
		{name: "null", fields: asLLM, serve: answerJSON(`{"choices":[{"message":{},"finish_reason":"stop"}],"error":null}`), want: "success"},
	}
	judge(t, rows)
}

// TestField_WorkflowAndBreakerReadAnAnswerAlike is row G3: n8n 29681 and agent-framework 7496. A step's verdict is the
// breaker's.
func TestField_WorkflowAndBreakerReadAnAnswerAlike(t *testing.T) {
	t.Parallel()
	tool := rpc(`"result":{"content":[],"isError":true}`)
	rows := []struct {
		judged

		fails bool // the step
	}{
		{judged{name: "Strict", fields: asStrict, serve: tool, want: "failure"}, true},
		{judged{name: "Tool", fields: asMCP, serve: tool, want: "ignored"}, false},
		{judged{name: "Rpc", fields: asRPC, serve: rpc(rpcError("-32000")), want: "failure"}, true},
		{judged{name: "Mcp", fields: asMCP, serve: rpc(rpcError("-32603")), want: "failure"}, true},
		{judged{name: "Llm", fields: asLLM, serve: answerJSON(`{"error":{"message":"m","code":503}}`), want: "failure"}, true},
		{judged{name: "Auto", fields: asAuto, serve: rpc(rpcError("-32000")), want: "failure"}, true},
		{judged{name: "Cut", fields: asLLM, serve: events("text/event-stream", `data: {"choices":[{"delta":{"content":"x"}}]}`+"\n\n"), want: "failure incomplete_stream"}, true},
		{judged{name: "Gzip", fields: asRPC, serve: compressed("gzip", "application/json", `{"jsonrpc":"2.0","id":1,`+rpcError("-32000")+`}`), want: "failure"}, true},
		{judged{name: "None", fields: asMCP, serve: rpc(`"error":{},"result":1`), want: "success"}, false},
	}
	var agents []fieldAgent
	next := 0
	for _, row := range rows {
		agents = append(agents, fieldAgent{name: row.name, serve: row.serve, fields: row.fields})
	}
	agents = append(agents, fieldAgent{name: "Next", serve: answerJSON(`{"ok":true}`)})
	f := inFront(t, nil, agents...)
	for _, row := range rows {
		f.call(http.MethodPost, "/api/v1/workflows", `{"workflow_id":"`+row.name+`","steps":{`+
			`"first":{"id":"first","agent_name":"`+row.name+`"},`+
			`"second":{"id":"second","agent_name":"Next","input_mapping":{"a":"$.steps.first.output"}}}}`).want(http.StatusCreated)
		for range 5 {
			r := f.execute(row.name)
			if !row.fails {
				r.want(http.StatusOK).has("status", "completed")
				next++
				continue
			}
			r.want(http.StatusBadGateway).has("code", "agent_failed").has("step", "first").has("agent", row.name)
		}
		f.awaitEnded(row.name, 5, row.want)
		if row.fails {
			f.wantState(row.name, "OPEN")
			f.execute(row.name).want(http.StatusServiceUnavailable).has("code", "circuit_breaker_open")
		} else {
			f.wantState(row.name, "CLOSED")
		}
	}
	f.awaitEnded("Next", next, "success") // no step went on with an error
}

// grpcAnswer is a call whose grpc-status comes in the trailer, or alone in the header if there is no message.
func grpcAnswer(status, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		if message == "" {
			w.Header().Set("Grpc-Status", status)
			return
		}
		flush(w, message)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	}
}

// TestField_GRPCStatusDecides is row G13: envoy 860 and agentgateway 1992.
func TestField_GRPCStatusDecides(t *testing.T) {
	t.Parallel()
	const message = "\x00\x00\x00\x00\x00"
	var rows []judged
	for status, want := range map[string]string{
		"0": "success", "1": "ignored", "2": "ignored", "3": "ignored", "4": "failure", "5": "ignored", "7": "ignored",
		"8": "failure", "12": "ignored", "13": "failure", "14": "failure", "15": "failure", "16": "ignored",
	} {
		rows = append(rows,
			judged{name: "trailer-" + status, fields: asGRPC, serve: grpcAnswer(status, message), want: want},
			judged{name: "header-" + status, fields: asAuto, serve: grpcAnswer(status, ""), want: want})
	}
	rows = append(rows, judged{name: "by-status", serve: grpcAnswer("14", message), want: "success"})
	judge(t, rows)
}

// TestField_StatusesThatCountAreTheRegistrys is row G18: lagom 964, Kong 3113 and litellm 34416. The only key has
// expired, and every call says 401.
func TestField_StatusesThatCountAreTheRegistrys(t *testing.T) {
	t.Parallel()
	status := func(name string, code int, fields, want string) judged {
		return judged{name: name, fields: fields, serve: answer(code, "{}"), want: want, status: code}
	}
	judge(t, []judged{
		status("key", 401, `"failure_statuses":[401]`, "failure http_401"),
		status("key-default", 401, "", "ignored http_401"),
		status("forbidden", 403, `"failure_statuses":["401-403"]`, "failure http_403"),
		status("paid", 402, `"failure_statuses":[402,404]`, "failure http_402"),
		status("gone", 404, `"failure_statuses":["404-410"]`, "failure http_404"),
		status("moved", 302, `"failure_statuses":["300-399"]`, "failure http_302"),
		status("other", 400, `"failure_statuses":[401]`, "ignored http_400"),
		status("limited", 429, `"ignored_statuses":[429]`, "ignored http_429"),
		status("busy", 503, `"ignored_statuses":["500-599"]`, "ignored http_503"),
		status("unimplemented", 501, "", "ignored http_501"),
		status("unimplemented-counts", 501, `"failure_statuses":[501]`, "failure http_501"),
		status("fine", 200, `"ignored_statuses":[200]`, "ignored http_200"),
	})
}

// TestField_RetryAfterIsReadWhateverItsForm is row G14: openai-python 957, litellm 5358 and CLIProxyAPI 5758. Half of
// row H12 is in it: Retry-After: 99999999.
func TestField_RetryAfterIsReadWhateverItsForm(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	rows := []struct {
		name   string
		header []string
		policy string
		want   float64 // seconds that the breaker stays open
	}{
		{"decimals", []string{"Retry-After", "90.5"}, "", 91},
		{"whole", []string{"Retry-After", "120"}, "", 120},
		{"milliseconds", []string{"Retry-After-Ms", "90500"}, "", 91},
		{"of-both", []string{"Retry-After", "100", "Retry-After-Ms", "99500"}, "", 100},
		{"a-day", []string{"Retry-After", "86400"}, "", 900},
		{"for-ever", []string{"Retry-After", "99999999"}, "", 900},
		{"overflow", []string{"Retry-After", strings.Repeat("9", 40)}, "", 900},
		{"own-cap", []string{"Retry-After", "86400"}, `"retry_after_max_seconds":200`, 200},
		{"date", []string{"Retry-After", date(2 * time.Minute), "Date", date(0)}, "", 120},
		{"date-far", []string{"Retry-After", date(48 * time.Hour), "Date", date(0)}, "", 900},
		{"short", []string{"Retry-After", "1.5"}, "", 60},
		{"negative", []string{"Retry-After", "-90"}, "", 60},
		{"words", []string{"Retry-After", "90 seconds"}, "", 60},
		{"unread", []string{"Retry-After", "90.5"}, `"retry_after":"ignore"`, 60},
	}
	var agents []fieldAgent
	for i, row := range rows {
		agents = append(agents, fieldAgent{name: row.name, serve: answer([]int{429, 503}[i%2], "{}", row.header...), policy: row.policy})
	}
	f := inFront(t, nil, agents...)
	for i, row := range rows {
		for range 5 {
			f.post(row.name, "/run").want([]int{429, 503}[i%2])
		}
		f.wantState(row.name, "OPEN")
		opened, _ := f.breakerOf(row.name, "opened_at").(string)
		until, _ := f.breakerOf(row.name, "timeout_until").(string)
		from, err := time.Parse(time.RFC3339, opened)
		if err != nil {
			t.Fatal(err)
		}
		to, err := time.Parse(time.RFC3339, until)
		if err != nil {
			t.Fatal(err)
		}
		if got := to.Sub(from).Seconds(); got < row.want-1 || got > row.want+1 { // both are shown in whole seconds
			t.Errorf("%s: %v: open for %v s, want %v", row.name, row.header, got, row.want)
		}
	}
}
