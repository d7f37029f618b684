package breakerhttp

import (
	"strings"
	"testing"
)

func TestReading_Auto(t *testing.T) {
	t.Parallel()
	const incomplete = "failure incomplete_stream"
	endpoint := "event: endpoint\ndata: /messages?session=1\n\n"
	conform(t, Auto, []answer{
		// JSON.
		{"rpc, fine", asJSON, rpcFine, "", false},
		{"rpc, error", asJSON, rpcBroken, "failure jsonrpc_error", false},
		{"rpc, the caller's", asJSON, rpcCaller, "ignored jsonrpc_error", false},
		{"rpc, tool", asJSON, rpcTool, "ignored tool_error", false},
		{"rpc, a type of JSON", "application/mcp+json", rpcBroken, "failure jsonrpc_error", false},
		{"rpc, batch", asJSON, "[" + rpcFine + "," + rpcBroken + "]", "failure jsonrpc_error", false},
		{"rpc, of another version", asJSON, strings.Replace(rpcBroken, "2.0", "1.0", 1), "", false},
		{"rpc, version is a number", asJSON, strings.Replace(rpcBroken, `"2.0"`, "2.0", 1), "", false},
		{"rpc, no version", asJSON, `{"error":{"code":-32000}}`, "", false},
		{"openai's error in JSON", asJSON, `{"error":{"message":"x","type":"server_error"}}`, "", false},
		{"openai's answer in JSON", asJSON, `{"object":"chat.completion","choices":[{"finish_reason":"stop"}]}`, "", false},
		{"JSON", asJSON, `{"status":"ok"}`, "", false},
		{"JSON, broken", asJSON, `{"jsonrpc":"2.0",`, "", false},
		{"JSON, empty", asJSON, "", "", false},
		{"problem", "application/problem+json", `{"type":"error","title":"x"}`, "", false},
		{"text", "text/plain", rpcBroken, "", true},
		{"page", "text/html; charset=utf-8", "<html>", "", true},
		{"no type", "", "data: x", "", true},

		// JSON-RPC in events.
		{"events of rpc", asSSE, sse(rpcFine), "", true},
		{"events of rpc, error", asSSE, sse(`{"jsonrpc":"2.0","method":"notifications/progress"}`, rpcBroken), "failure jsonrpc_error", false},
		{"events of rpc, tool", asSSE, sse(rpcTool), "ignored tool_error", false},
		{"events of rpc, primed", asSSE, "id: 1\ndata: \n\n" + sse(rpcBroken), "failure jsonrpc_error", false},
		{"events of rpc, session", asSSE, endpoint + "event: message\n" + sse(rpcBroken), "failure jsonrpc_error", false},
		{"events of rpc, endless", asSSE, endpoint, "", true},
		{"events of rpc, as a document", asSSE, rpcBroken, "failure jsonrpc_error", false},
		{"lines of rpc", asLines, rpcFine + "\n" + rpcBroken + "\n", "failure jsonrpc_error", false},

		// Streams of LLM providers.
		{"openai", asSSE, sse(openAIChunk, openAIStop, "[DONE]"), "", true},
		{"openai, cut", asSSE, sse(openAIChunk), incomplete, true},
		{"openai, error", asSSE, sse(openAIChunk, `{"error":{"code":502}}`), "failure llm_error_502", false},
		{"openai, error first", asSSE, sse(`{"error":{"message":"x","type":"server_error"}}`), "failure llm_error_500", false},
		{"responses, error first", asSSE, sse(`{"type":"error","code":"server_error","message":"x"}`), "failure llm_error_500", false},
		{"anthropic, error first without a text", asSSE, sse(`{"type":"error","error":{"type":"overloaded_error"}}`), "failure llm_error_529", false},
		{"google, error first", asSSE, sse(`{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED"}}`), "failure llm_error_429", false},
		{"openai, completions", asSSE, sse(`{"object":"text_completion","choices":[{"text":"x"}]}`), incomplete, true},
		{"azure", asSSE, sse(`{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[]}`), incomplete, true},
		{"openai, the least", asSSE, sse(`{"choices":[{"delta":{"content":"Hel"}}]}`), incomplete, true},
		{"openrouter, after comments", asSSE, ": OPENROUTER PROCESSING\n\n" + sse(openAIChunk), incomplete, true},
		{"responses", asSSE, sse(created), incomplete, true},
		{"responses, failed", asSSE, sse(created, `{"type":"response.failed","response":{"error":{"code":"server_error"}}}`), "failure llm_error_500", false},
		{"anthropic", asSSE, anthropic(stopOf), "", true},
		{"anthropic, cut", asSSE, anthropic(), incomplete, true},
		{"anthropic, ping first", asSSE, "event: ping\ndata: {\"type\": \"ping\"}\n\n" + startOf, incomplete, true},
		{"anthropic, only ping", asSSE, "event: ping\ndata: {\"type\": \"ping\"}\n\n", incomplete, true},
		{"anthropic, error first", asSSE, overloaded, "failure llm_error_529", false},
		{"gemini, cut", asSSE, sse(geminiChunk), incomplete, true},
		{"gemini", asSSE, sse(geminiChunk, geminiStop), "", true},
		{"ollama, cut", asLines, ollamaChunk + "\n", incomplete, true},
		{"ollama", asLines, ollamaChunk + "\n" + ollamaDone + "\n", "", true},
		{"ollama, error", asLines, ollamaChunk + "\n" + `{"error":"x"}` + "\n", "failure llm_error", false},
		{"openai in lines", asLines, openAIChunk + "\n" + openAIStop + "\n", "", true},

		// Foreign streams.
		{"foreign, nothing", asSSE, "", "", false},
		{"foreign, comments", asSSE, ":\n\n:\n\n", "", false},
		{"foreign, text", asSSE, sse("hello"), "", true},
		{"foreign, numbers", asSSE, sse("1", "2"), "", true},
		{"foreign, JSON", asSSE, sse(`{"price":1}`, `{"price":2}`), "", true},
		{"foreign, error later", asSSE, sse(`{"price":1}`, `{"error":{"code":500,"message":"x"}}`), "", true},
		{"foreign, pings", asSSE, sse(`{"type":"ping"}`, `{"type":"ping"}`), "", true},
		{"foreign, pings by name", asSSE, "event: ping\ndata: 1\n\nevent: ping\ndata: 2\n\n", "", true},
		{"foreign, ping, then openai", asSSE, sse(`{"type":"ping"}`, openAIChunk), incomplete, true},
		{"foreign, ping and more", asSSE, sse(`{"type":"ping"}`, `{"type":"update"}`), "", true},
		{"foreign, choices", asSSE, sse(`{"choices":["a","b"],"model":"T"}`), "", true},
		{"foreign, choices that are objects", asSSE, sse(`{"choices":[{"text":"a"}]}`), "", true},
		{"foreign, candidates", asSSE, sse(`{"candidates":["Ada"]}`), "", true},
		{"foreign, done", asLines, `{"done":false}` + "\n", "", true},
		{"foreign, model", asLines, `{"model":"T"}` + "\n", "", true},
		{"foreign, lines", asLines, "1\n2\n", "", true},
		{"foreign, of type error", asSSE, sse(`{"type":"error","line":3}`), "", true},
		{"foreign, an error without a text", asSSE, sse(`{"error":{"field":"x"}}`), "", true},
		{"foreign, error as a text", asSSE, sse(`{"error":"x"}`), "", true},
		{"foreign, an event of any name", asSSE, "event: open\ndata: x\n\n" + sse(rpcBroken), "", true},
	})
}
