package breakerhttp

import "bytes"

// maxMessage bounds what is kept of a message.
const maxMessage = 1 << 20

// maxSpare bounds the memory that is kept for the next message.
const maxSpare = 64 << 10

// message is one event, line or document.
type message struct {
	name string // of an event
	text []byte // valid until the next message
	some bool   // there is text, even if it is not kept
	cut  bool   // text is not all of it
}

// lexer finds the messages of a body, whose parts end anywhere. It shows them as they end, and keeps no text while more
// is false.
type lexer interface {
	read(part []byte) (data bool) // see reading.read
	finish()                      // shows the last message, whose end is missing
}

// documentLexer keeps one JSON text until it ends.
type documentLexer struct {
	show func(message) (more bool)
	text []byte
	cut  bool
}

func (d *documentLexer) read(part []byte) bool {
	switch {
	case d.cut:
	case len(d.text)+len(part) > maxMessage:
		d.cut, d.text = true, nil
		d.show(message{some: true, cut: true})
	default:
		d.text = append(d.text, part...)
	}
	return true
}

func (d *documentLexer) finish() {
	if !d.cut {
		d.show(message{text: d.text, some: len(d.text) > 0})
		d.text = nil
	}
}

// recordSeparator begins each text of a JSON sequence, RFC 7464.
const recordSeparator = 0x1e

// lineLexer finds lines, or the texts of a JSON sequence.
type lineLexer struct {
	show  func(message) (more bool)
	limit int
	end   byte
	m     message // so far
}

func (l *lineLexer) read(part []byte) (data bool) {
	for {
		line, rest, ends := bytes.Cut(part, []byte{l.end})
		if len(bytes.TrimLeft(line, " \t\r\n\x1e")) > 0 {
			data, l.m.some = true, true
		}
		if l.m.some && !l.m.cut {
			if l.m.cut = len(l.m.text)+len(line) > l.limit; !l.m.cut {
				l.m.text = append(l.m.text, line...)
			}
		}
		if !ends {
			return data
		}
		l.finish()
		part = rest
	}
}

func (l *lineLexer) finish() {
	if l.m.some && !l.show(l.m) {
		l.limit = 0
	}
	l.m = message{text: reuse(l.m.text)}
}

// reuse empties a buffer, and drops one that is too large to keep.
func reuse(buffer []byte) []byte {
	if cap(buffer) > maxSpare {
		return nil
	}
	return buffer[:0]
}

const (
	minLine = 16 // bytes tell the field of a line, and whether it has a value
	maxName = 64 // bounds the name of an event
)

// eventLexer finds server-sent events. A line ends with CR, LF or both, an event with an empty line.
type eventLexer struct {
	show  func(message) (more bool)
	limit int
	m     message // so far: its data lines, each with a line feed
	line  []byte  // so far, or the first bytes of it
	seen  bool    // the line has a byte
	cr    bool    // the last byte was a CR
	begun bool    // the first line has ended
}

func (e *eventLexer) read(part []byte) (data bool) {
	lf := -1 // where part has its next LF, len(part) if it has none; below zero: not known
	for len(part) > 0 {
		if lf < 0 {
			if lf = bytes.IndexByte(part, '\n'); lf < 0 {
				lf = len(part)
			}
		}
		end := lf
		if cr := bytes.IndexByte(part[:lf], '\r'); cr >= 0 {
			end = cr
		}
		ofCRLF := e.cr && lf == 0
		e.cr = false
		data = e.keep(part[:end]) || data
		if end == len(part) {
			return data
		}
		e.cr = part[end] == '\r'
		if !ofCRLF {
			e.endLine()
		}
		part = part[end+1:]
		lf -= end + 1
	}
	return data
}

// finish shows an event whose empty line is missing as if it were complete.
func (e *eventLexer) finish() {
	if e.seen {
		e.endLine()
	}
	e.endEvent()
}

// keep adds a part of a line. data says that the line is no comment.
func (e *eventLexer) keep(part []byte) (data bool) {
	if len(part) == 0 {
		return false
	}
	e.seen = true
	if e.isComment() {
		return false
	}
	if room := e.limit - len(e.m.text) + minLine - len(e.line); len(part) > room {
		part = part[:room]
		e.m.cut = true
	}
	e.line = append(e.line, part...)
	if e.isComment() {
		return false
	}
	return len(e.field()) > 0
}

// field is the line without the mark that may begin the stream.
func (e *eventLexer) field() []byte {
	const mark = "\ufeff"
	switch {
	case e.begun:
		return e.line
	case len(e.line) < len(mark) && bytes.HasPrefix([]byte(mark), e.line): // or half of it
		return nil
	}
	return bytes.TrimPrefix(e.line, []byte(mark))
}

func (e *eventLexer) isComment() bool { return bytes.HasPrefix(e.field(), []byte(":")) }

func (e *eventLexer) endLine() {
	name, value, _ := bytes.Cut(e.field(), []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch {
	case !e.seen:
		e.endEvent()
	case string(name) == "event":
		e.m.name = string(value[:min(len(value), maxName)])
	case string(name) == "data":
		e.m.some = e.m.some || len(value) > 0
		if e.m.cut = e.m.cut || len(e.m.text)+len(value) >= e.limit; e.m.cut {
			e.m.text = reuse(e.m.text)
		} else {
			e.m.text = append(append(e.m.text, value...), '\n')
		}
	}
	e.line, e.seen, e.begun = reuse(e.line), false, true
}

func (e *eventLexer) endEvent() {
	if (e.m.some || e.m.name != "") && !e.show(e.m) {
		e.limit = 0
	}
	e.m = message{text: reuse(e.m.text)}
}
