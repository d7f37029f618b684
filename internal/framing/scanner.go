package framing

import (
	"bytes"
	"strconv"
)

// state is what the next byte of a connection belongs to.
type state uint8

const (
	requestLine state = iota
	fieldLine         // of the header
	content           // of known length
	chunkLine
	chunk // its data, and the line end behind
	trailerLine

	ambiguous // the header of a request that must be refused has ended
	lost      // nobody can say where the next request begins; net/http refuses this one
	other     // not HTTP/1
)

// scanner follows the requests on one connection. The zero value is at the beginning of one.
type scanner struct {
	state state
	line  []byte // the beginning of a line whose end has not been read
	left  uint64 // bytes to come of content or chunk

	old, coded, sized bool // HTTP/1.0, has Transfer-Encoding, has Content-Length
	size              []byte
	folded            bool // the next line may continue a Content-Length
}

// maxLine bounds a line of a header, in bytes: more than net/http takes.
const maxLine = 128 << 10

func (s *scanner) inside() bool { return s.state != requestLine && s.state != other || len(s.line) > 0 }

// read follows p, the next bytes. When the state is then ambiguous, before is how many of them come before the line
// that ends the header.
func (s *scanner) read(p []byte) (before int) {
	for at := 0; at < len(p); {
		switch s.state {
		case content, chunk:
			n := min(s.left, uint64(len(p)-at))
			at, s.left = at+int(n), s.left-n //nolint:gosec // n <= len(p)
			if s.left == 0 {
				s.state = afterData(s.state)
			}
		case ambiguous, lost, other:
			return 0
		default:
			end := bytes.IndexByte(p[at:], '\n')
			if end < 0 {
				s.keep(p[at:])
				return 0
			}
			line := p[at : at+end]
			if len(s.line) > 0 {
				s.keep(line)
				line, s.line = s.line, nil
			}
			s.endLine(bytes.TrimSuffix(line, []byte("\r")))
			if s.state == ambiguous {
				return at
			}
			at += end + 1
		}
	}
	return 0
}

// keep appends to the line that has begun.
func (s *scanner) keep(p []byte) {
	if len(s.line)+len(p) > maxLine {
		s.state, s.line = lost, nil
		return
	}
	s.line = append(s.line, p...)
}

func (s *scanner) endLine(line []byte) {
	switch {
	case s.state == requestLine:
		s.begin(line)
	case s.state == fieldLine && len(line) > 0:
		s.field(line)
	case s.state == fieldLine:
		s.endHeader()
	case s.state == chunkLine:
		s.beginChunk(line)
	case s.state == trailerLine && len(line) == 0:
		s.state = requestLine
	}
}

func (s *scanner) begin(line []byte) {
	*s = scanner{state: fieldLine, size: s.size[:0], old: bytes.HasSuffix(line, []byte(" HTTP/1.0"))}
	switch {
	case bytes.HasPrefix(line, []byte("PRI * HTTP/2")):
		s.state = other
	case len(line) == 0:
		s.state = lost
	}
}

func (s *scanner) field(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		if s.folded {
			s.size = append(s.size, bytes.TrimSpace(line)...)
		}
		return
	}
	s.folded = false
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		s.coded = true
	case bytes.EqualFold(name, []byte("Content-Length")):
		s.sized, s.folded = true, true
		s.size = append(s.size[:0], bytes.TrimSpace(value)...)
	}
}

// endHeader finds out how the request goes on. A request with both Transfer-Encoding and Content-Length, and one of
// HTTP/1.0 with Transfer-Encoding, may end elsewhere for a proxy before this server (RFC 9112, 6.1).
func (s *scanner) endHeader() {
	switch {
	case s.coded && (s.sized || s.old):
		s.state = ambiguous
	case s.coded:
		s.state = chunkLine
	case !s.sized:
		s.state = requestLine
	default:
		n, err := strconv.ParseUint(string(s.size), 10, 63)
		switch {
		case err != nil:
			s.state = lost
		case n == 0:
			s.state = requestLine
		default:
			s.state, s.left = content, n
		}
	}
}

func (s *scanner) beginChunk(line []byte) {
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 62)
	switch {
	case err != nil:
		s.state = lost
	case n == 0:
		s.state = trailerLine
	default:
		s.state, s.left = chunk, n+uint64(len("\r\n"))
	}
}

func afterData(s state) state {
	if s == chunk {
		return chunkLine
	}
	return requestLine
}
