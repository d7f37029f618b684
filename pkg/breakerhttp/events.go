package breakerhttp

import "bytes"

// events judges the data of each server-sent event. A line ends with CR, LF or both, an event with an empty line, and the parts
// in which a body comes end anywhere.
type events struct {
	judge func([]byte) string
	line  []byte // what has come of the line
	some  bool   // the line is not empty
	data  []byte // what has come of the event: its data lines, each with a line feed
	much  bool   // the event is longer than is remembered
	cr    bool   // the last byte was a CR
	begun bool   // the first line is over
}

func (e *events) see(part []byte) (class string) {
	for len(part) > 0 {
		if e.cr && part[0] == '\n' { // the second half of a line's end
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

// end takes an event whose empty line is missing for whole: its sender has nothing to add.
func (e *events) end() (class string) {
	if e.some {
		e.endLine()
	}
	return e.endLine()
}

func (e *events) keep(part []byte) {
	e.some = e.some || len(part) > 0
	e.much = e.much || len(e.line)+len(e.data)+len(part) > maxMessage
	if e.much {
		e.line, e.data = nil, nil
		return
	}
	e.line = append(e.line, part...)
}

func (e *events) endLine() (class string) {
	line, some := e.line, e.some
	e.line, e.some = e.line[:0], false
	if !e.begun {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
		e.begun = true
	}
	switch {
	case !some:
		class = e.judge(e.data)
		e.data, e.much = e.data[:0], false
	case !e.much:
		if name, value, _ := bytes.Cut(line, []byte(":")); string(name) == "data" {
			e.data = append(e.data, bytes.TrimPrefix(value, []byte(" "))...)
			e.data = append(e.data, '\n')
		}
	}
	return class
}
