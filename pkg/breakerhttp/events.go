package breakerhttp

import "bytes"

// events judges the data of each server-sent event. A line ends with CR, LF or both, an event with an empty line. The
// parts of a body end anywhere.
type events struct {
	judge    func([]byte) string
	line     []byte // so far
	nonEmpty bool   // the line has a byte, kept or not
	data     []byte // of the event so far: its data lines, each with a line feed
	tooLong  bool   // the event
	cr       bool   // the last byte was a CR
	begun    bool   // the first line has ended
}

func (e *events) read(part []byte) (class string) {
	for len(part) > 0 {
		if e.cr && part[0] == '\n' { // of CR LF
			e.cr = false
			part = part[1:]
			continue
		}
		e.cr = false
		i := bytes.IndexAny(part, "\r\n")
		if i < 0 {
			e.keep(part)
			return ""
		}
		e.keep(part[:i])
		e.cr = part[i] == '\r'
		part = part[i+1:]
		if class = e.endLine(); class != "" {
			return class
		}
	}
	return ""
}

// finish judges an event whose empty line is missing as if it were complete.
func (e *events) finish() (class string) {
	if e.nonEmpty {
		e.endLine()
	}
	return e.endLine()
}

func (e *events) keep(part []byte) {
	e.nonEmpty = e.nonEmpty || len(part) > 0
	e.tooLong = e.tooLong || len(e.line)+len(e.data)+len(part) > maxMessage
	if e.tooLong {
		e.line, e.data = nil, nil
		return
	}
	e.line = append(e.line, part...)
}

func (e *events) endLine() (class string) {
	line, nonEmpty := e.line, e.nonEmpty
	e.line, e.nonEmpty = e.line[:0], false
	if !e.begun {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
		e.begun = true
	}
	switch {
	case !nonEmpty:
		class = e.judge(e.data)
		e.data, e.tooLong = e.data[:0], false
	case !e.tooLong:
		if name, value, _ := bytes.Cut(line, []byte(":")); string(name) == "data" {
			e.data = append(e.data, bytes.TrimPrefix(value, []byte(" "))...)
			e.data = append(e.data, '\n')
		}
	}
	return class
}
