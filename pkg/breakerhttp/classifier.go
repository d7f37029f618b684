package breakerhttp

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
)

// BodyClassifier says how to find a failure in the body of a response whose status is a success. Its texts are those of a
// registry file. Bodies pass through as they come: application/json is judged at its end if it has at most 1 MiB, of
// text/event-stream each event of at most that size as it passes. What is longer, of another type or not understood, is left to
// the status.
type BodyClassifier string

// The classifiers. The zero value is StatusOnly.
const (
	// StatusOnly leaves the body alone.
	StatusOnly BodyClassifier = "status"
	// JSONRPC finds a JSON-RPC response with an error that is not null, in a batch too: class jsonrpc_error.
	JSONRPC BodyClassifier = "jsonrpc"
	// MCP finds what JSONRPC does, and a result whose isError is true: class tool_error.
	MCP BodyClassifier = "mcp"
)

// maxMessage bounds what is remembered of a body that passes.
const maxMessage = 1 << 20

// inspector is shown a body as it passes. Both methods name the class of the failure that they have found, else "".
type inspector interface {
	see(part []byte) (class string)
	end() (class string)
}

// reads says that bodies are looked at.
func (c BodyClassifier) reads() bool { return c == JSONRPC || c == MCP }

// inspector is for the body of one response; nil where it cannot be read.
func (c BodyClassifier) inspector(resp *http.Response) inspector {
	if !c.reads() {
		return nil
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return nil
	case kind == "application/json":
		return &document{judge: c.judge}
	case kind == "text/event-stream":
		return &events{judge: c.judge}
	}
	return nil
}

// judge looks at one JSON text: a message or a batch of them.
func (c BodyClassifier) judge(text []byte) (class string) {
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("[")) {
		return c.judgeMessage(text)
	}
	var batch []json.RawMessage
	if json.Unmarshal(text, &batch) != nil {
		return ""
	}
	for _, message := range batch {
		if class = c.judgeMessage(message); class != "" {
			return class
		}
	}
	return ""
}

func (c BodyClassifier) judgeMessage(text []byte) (class string) {
	message, ok := object(text)
	if !ok {
		return ""
	}
	if e, some := message["error"]; some && string(e) != "null" {
		return "jsonrpc_error"
	}
	if c != MCP {
		return ""
	}
	if result, ok := object(message["result"]); ok && string(result["isError"]) == "true" {
		return "tool_error"
	}
	return ""
}

// object reads a JSON object to its first level; unlike a struct, a map takes names to the letter.
func object(text []byte) (fields map[string]json.RawMessage, ok bool) {
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, false
	}
	return fields, json.Unmarshal(text, &fields) == nil
}

// document collects one JSON text.
type document struct {
	judge func([]byte) string
	text  []byte
	much  bool // more than is remembered
}

func (d *document) see(part []byte) string {
	d.much = d.much || len(d.text)+len(part) > maxMessage
	if d.much {
		d.text = nil
		return ""
	}
	d.text = append(d.text, part...)
	return ""
}

func (d *document) end() string { return d.judge(d.text) }
