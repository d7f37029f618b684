package breakerhttp

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
)

// BodyClassifier says how to find a failure in the body of a response whose status is a success. A registry file has
// the same words. Bodies pass as they come: a body of application/json is judged at its end, each event of
// text/event-stream as it passes. A body or event of more than 1 MiB, of another type, or that cannot be parsed, is
// left to the status.
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

// maxMessage bounds what is kept of a body that passes.
const maxMessage = 1 << 20

// inspector reads a body as it passes. Both methods name the class of a failure that they find, else "".
type inspector interface {
	read(part []byte) (class string)
	finish() (class string)
}

func (c BodyClassifier) readsBodies() bool { return c == JSONRPC || c == MCP }

// inspector reads the body of one response; nil if it cannot.
func (c BodyClassifier) inspector(resp *http.Response) inspector {
	if !c.readsBodies() {
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

// judge judges one JSON text: a message, or a batch of them.
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

// object parses the first level of a JSON object. It is a map because the fields of a struct match names in any case.
func object(text []byte) (fields map[string]json.RawMessage, ok bool) {
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, false
	}
	return fields, json.Unmarshal(text, &fields) == nil
}

// document keeps one JSON text until it ends.
type document struct {
	judge   func([]byte) string
	text    []byte
	tooLong bool
}

func (d *document) read(part []byte) string {
	d.tooLong = d.tooLong || len(d.text)+len(part) > maxMessage
	if d.tooLong {
		d.text = nil
		return ""
	}
	d.text = append(d.text, part...)
	return ""
}

func (d *document) finish() string { return d.judge(d.text) }
