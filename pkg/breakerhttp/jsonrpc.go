package breakerhttp

import "github.com/breakerd/breakerd/pkg/breaker"

// rpcOutcome is the worst error in a JSON-RPC message, or in a batch of them.
func (c BodyClassifier) rpcOutcome(text []byte) (worst breaker.Outcome) {
	for one := range messages(text) {
		worst = worse(worst, c.rpcMessageOutcome(one))
	}
	return worst
}

func (c BodyClassifier) rpcMessageOutcome(text []byte) (o breaker.Outcome) {
	var failed, result []byte
	for name, value := range members(text) {
		switch string(name) {
		case "error":
			failed = value
		case "result":
			result = value
		}
	}
	if code, ok := numberOf(member(failed, "code")); ok {
		return breaker.Outcome{Kind: rpcKind(code), Class: "jsonrpc_error"}
	}
	if c != JSONRPC && string(member(result, "isError")) == "true" {
		o = breaker.Outcome{Kind: breaker.Ignored, Class: "tool_error"}
		if c == MCPStrict {
			o.Kind = breaker.Failure
		}
	}
	return o
}

// rpcKind is what the code of a JSON-RPC error counts as.
func rpcKind(code float64) breaker.OutcomeKind {
	switch code {
	case -32700, -32600, -32601, -32602, // parse error, invalid request, method not found, invalid parameters
		-32002: // MCP: resource not found
		return breaker.Ignored
	}
	return breaker.Failure
}

// isRPC says that text is a JSON-RPC 2.0 message, or a batch with one.
func isRPC(text []byte) bool {
	for one := range messages(text) {
		if stringOf(member(one, "jsonrpc")) == "2.0" {
			return true
		}
	}
	return false
}
