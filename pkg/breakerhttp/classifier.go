package breakerhttp

// BodyClassifier says how to find an error in a response whose status is a success. A registry file has the same words.
//
// A body passes as it comes. A document (application/json and other types of JSON) is judged at its end; an event of
// text/event-stream, a line of NDJSON (application/x-ndjson, application/jsonl, application/stream+json) and a text of
// application/json-seq as it passes. A failure decides the call at once. An error that is the caller's own is ignored,
// and decides at the end of the body, because a failure that follows counts more; so it is in a batch, where messages
// without an error count less than either. A message of more than 1 MiB, a body of another type and what cannot be
// parsed are left to the status. gzip and deflate are read through, as long as a byte gives no more than 64; bodies of
// other codings are left to the status. A request's Accept-Encoding is narrowed to what can be read.
type BodyClassifier string

// The classifiers. The zero value is StatusOnly.
const (
	// StatusOnly leaves the body alone.
	StatusOnly BodyClassifier = "status"
	// JSONRPC finds a JSON-RPC error, in a batch too: an object with a numeric code. -32700, -32600, -32601, -32602 and
	// -32002 are the caller's own fault and ignored; every other code is a failure. Both have the class jsonrpc_error.
	JSONRPC BodyClassifier = "jsonrpc"
	// MCP finds what JSONRPC does, and a result whose isError is true: ignored, class tool_error, because an agent that
	// answers so may be well, and the model is to read what it says.
	MCP BodyClassifier = "mcp"
	// MCPStrict is MCP, but a result whose isError is true is a failure.
	MCPStrict BodyClassifier = "mcp_strict"
	// LLM finds the errors of LLM providers: an error that is a text, a number, true or an object, but nothing empty or
	// zero; a type, an object or an event named error; response.failed, and a response of status failed; a finish_reason
	// of error. The error's own code counts as a status would: a number from 400 to 599, or a word that providers use for
	// one, as invalid_request_error (400), RESOURCE_EXHAUSTED (429) and overloaded_error (529). Its class is
	// llm_error_429 and the like. An error without such a code is a failure, class llm_error.
	//
	// A stream of events or lines that ends without an end mark, even without an event, is a failure, class
	// incomplete_stream, unless it had an error. End marks are [DONE], response.completed, response.incomplete,
	// message_stop, the last events of OpenAI's images and audio, done, is_finished and stop that are true, and a
	// finish_reason, finishReason or stop_reason, in a choice or candidate too. A document needs none.
	LLM BodyClassifier = "llm"
	// GRPC goes by the grpc-status in the header or the trailer of application/grpc. 0 is a success; 4, 8, 13, 14 and 15
	// are failures; the others are ignored. Classes are grpc_14 and the like, and grpc_unknown above 16. An answer that
	// ends without a status is a failure, class grpc_no_status. gRPC-Web, whose trailers are in the body, is left to the
	// status.
	GRPC BodyClassifier = "grpc"
	// Auto picks for each answer: GRPC for application/grpc; MCP for a document of JSON-RPC 2.0, or a stream that begins
	// with it; LLM for a stream that begins as one of OpenAI, Anthropic, Gemini or Ollama does, or with an error in their
	// form; else StatusOnly.
	Auto BodyClassifier = "auto"
)

// BodyClassifiers returns all classifiers, in the order of the documentation.
func BodyClassifiers() []BodyClassifier {
	return []BodyClassifier{StatusOnly, JSONRPC, MCP, MCPStrict, LLM, GRPC, Auto}
}

// readsBodies says that the verdict may depend on the body.
func (c BodyClassifier) readsBodies() bool { return c != "" && c != StatusOnly }

// readsText says that it may depend on the text of the body.
func (c BodyClassifier) readsText() bool { return c.readsBodies() && c != GRPC }
