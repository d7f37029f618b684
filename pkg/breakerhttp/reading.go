package breakerhttp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// reading reads the body of one response as it passes: for the verdict on the call, and for the clocks that go by data.
// It is not safe for concurrent use.
type reading struct {
	by       BodyClassifier // Auto until a message has decided
	statuses Statuses
	resp     *http.Response

	form    form
	decoder *decoder // nil: what passes is read as it is
	lexer   lexer    // nil: nothing to read has passed, or nobody looks into the body

	outcome breaker.Outcome // the worst error so far; none if it has no Kind
	flows   bool
	marked  bool // the end mark of a stream has passed
	missed  bool // a message was not judged, and may have been the end mark
	ended   bool
}

// form is how a body holds its messages.
type form uint8

const (
	opaque   form = iota // nobody looks into it
	document             // one JSON text
	events               // text/event-stream
	lines                // a JSON text on each line
	sequence             // JSON texts after record separators, RFC 7464
)

// newReading reads the body of a response whose status is a success. It is never nil.
func newReading(c BodyClassifier, s Statuses, resp *http.Response) *reading {
	r := &reading{by: c, statuses: s, resp: resp}
	if hasNoBody(resp) {
		r.by = StatusOnly
		return r
	}
	kind := mediaType(resp.Header)
	if isGRPC(kind) && (c == GRPC || c == Auto) {
		r.by = GRPC
		o, _ := grpcOutcome(resp.Header)
		r.count(o)
		return r
	}
	if c == GRPC || c == "" {
		r.by = StatusOnly
	}
	r.form = formOf(kind)
	coding := contentCoding(resp.Header)
	if r.by == StatusOnly && (r.form == document || coding != "") {
		r.form = opaque
	}
	if r.form != opaque && coding != "" {
		if r.decoder = newDecoder(coding, r.lex); r.decoder == nil {
			r.form = opaque
		}
	}
	return r
}

// hasNoBody says that a response has none whatever its header says (RFC 9110, 6.4.1).
func hasNoBody(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return true
	}
	return resp.Request != nil && resp.Request.Method == http.MethodHead
}

// formOf is the form that a media type names.
func formOf(kind string) form {
	switch kind {
	case "":
		return opaque
	case "text/event-stream":
		return events
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
		"application/jsonlines", "application/x-jsonlines", "application/json-lines", "application/stream+json":
		return lines
	case "application/json-seq":
		return sequence
	case "application/json", "text/json":
		return document
	}
	switch {
	case strings.HasSuffix(kind, "+json-seq"):
		return sequence
	case strings.HasSuffix(kind, "+json"):
		return document
	}
	return opaque
}

// mediaType is the Content-Type in lower case, without parameters.
func mediaType(h http.Header) string {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// read is shown each part of the body, in order. data says that part has bytes that are neither a comment nor a blank
// line of a stream of events or lines. Of every other body each byte is data.
func (r *reading) read(part []byte) (data bool) {
	switch {
	case len(part) == 0:
		return false
	case r.form == opaque:
		r.flows = true
		return true
	case r.decoder == nil:
		return r.lex(part)
	}
	data = r.decoder.read(part) || r.form == document
	if r.decoder.broken || r.form == document && r.missed || r.isDecided() {
		r.decoder.stop()
		r.decoder, r.form, r.missed, r.flows = nil, opaque, true, true
	}
	return data || r.form == opaque
}

// lex finds the messages in a part of the body as it was before its compression.
func (r *reading) lex(part []byte) (data bool) {
	if r.lexer == nil {
		if part = r.begin(part); r.lexer == nil {
			return r.form == document
		}
	}
	return r.lexer.read(part)
}

// begin chooses the lexer. A stream of events never begins with a brace or a bracket, nor JSON with the name of a field
// or a colon: agents that send an error in place of a stream, or wrap another, do not always mend the Content-Type.
func (r *reading) begin(part []byte) (rest []byte) {
	if r.by != StatusOnly && (r.form == events || r.form == document) {
		if part = bytes.TrimLeft(part, " \t\r\n"); len(part) == 0 {
			return nil
		}
		switch part[0] {
		case '{', '[':
			r.form = document
		case 'd', 'e', 'i', 'r', ':':
			r.form = events
		}
	}
	limit := maxMessage
	if r.by == StatusOnly {
		limit = 0
	}
	switch r.form {
	case document:
		r.lexer = &documentLexer{show: r.message, text: make([]byte, 0, len(part))}
	case lines:
		r.lexer = &lineLexer{show: r.message, limit: limit, end: '\n'}
	case sequence:
		r.lexer = &lineLexer{show: r.message, limit: limit, end: recordSeparator}
	default:
		r.lexer = &eventLexer{show: r.message, limit: limit}
	}
	return part
}

// message judges a message that has passed. more says that the text of the next one is wanted.
func (r *reading) message(m message) (more bool) {
	o := r.judge(m)
	r.count(o)
	if o.Kind == "" && m.some && (r.form != document || m.cut) {
		r.flows = true
	}
	return !r.isDecided()
}

// isDecided says that no message can change the verdict.
func (r *reading) isDecided() bool { return r.by == StatusOnly || r.outcome.Kind == breaker.Failure }

// judge says what error a message is; none if the outcome has no Kind.
func (r *reading) judge(m message) (o breaker.Outcome) {
	if m.cut {
		r.missed = true
	}
	if r.by == StatusOnly {
		return o
	}
	m.text = bytes.TrimSpace(bytes.TrimPrefix(m.text, []byte("\ufeff")))
	done := string(m.text) == "[DONE]"
	if m.cut || !json.Valid(m.text) {
		m.text = nil
	}
	if r.by == Auto {
		r.by = readerOf(m, r.form)
	}
	switch r.by {
	case JSONRPC, MCP, MCPStrict:
		return r.by.rpcOutcome(m.text)
	case LLM:
		o, marked := llmOutcome(m, r.statuses)
		r.marked = r.marked || marked || done
		return o
	}
	return o
}

// count makes o the outcome if it is worse than what was found before.
func (r *reading) count(o breaker.Outcome) {
	if r.outcome = worse(r.outcome, o); r.outcome == o && o.Kind == breaker.Failure {
		r.outcome.RetryAfter = retryAfter(r.resp.Header, time.Now())
	}
}

// worse returns a failure rather than an ignored error, and that rather than none. Of equals it returns a.
func worse(a, b breaker.Outcome) breaker.Outcome {
	if a.Kind == "" || a.Kind == breaker.Ignored && b.Kind == breaker.Failure {
		return b
	}
	return a
}

// flowing says that the first data of a stream has come and was judged no error: a complete event or line or, of a body
// that nobody looks into, a byte. A JSON document that is judged at its end never flows.
func (r *reading) flowing() bool { return r.flows && r.outcome.Kind != breaker.Failure }

// found is the error that decides the call. A failure decides as soon as it has passed. An error that is the caller's
// own decides at the end of the body, or at release: a failure may follow, and counts more. Messages without an error,
// before it or after it, count less, in a stream as in a batch: they are progress, or answers to something else.
func (r *reading) found() (o breaker.Outcome, ok bool) {
	return r.outcome, r.outcome.Kind == breaker.Failure || r.outcome.Kind == breaker.Ignored && r.ended
}

// finish says that the body has ended as it should: it judges what is left, the trailer, and a missing end mark.
func (r *reading) finish() {
	if r.ended {
		return
	}
	r.release()
	switch {
	case r.outcome.Kind != "":
	case r.by == GRPC:
		r.count(grpcFinalOutcome(r.resp))
	case r.by == LLM && r.form > document && !r.marked && !r.missed:
		r.count(breaker.Outcome{Kind: breaker.Failure, Class: "incomplete_stream"})
	}
}

// release says that the body has broken, or was closed early: it judges what has passed, and frees what is held.
func (r *reading) release() {
	if r.ended {
		return
	}
	r.ended = true
	if r.decoder != nil {
		r.decoder.finish()
		r.missed = r.missed || r.decoder.broken
		r.decoder = nil
	}
	if r.lexer != nil {
		r.lexer.finish()
		r.lexer = nil
	}
}
