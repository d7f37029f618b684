package workflow

import (
	"maps"

	"github.com/breakerd/breakerd/internal/text"
)

// take reads a text that came from Redis, and remembers it. "" and a damaged one are ErrUnknown. Which agents there are is not
// asked again: one that has gone since is the execution's trouble.
func (l *Library) take(id, record string) (Definition, error) {
	if old, ok := l.remembered(id); ok && old.text == record {
		if old.bad {
			return Definition{}, unknown(id)
		}
		return old.d, nil
	}
	if record == "" {
		l.remember(id, seen{})
		return Definition{}, unknown(id)
	}
	d, err := ParseDefinition([]byte(record), nil)
	bad := err != nil || d.ID != id
	if bad {
		l.o.Logger.Warn("workflow in Redis is damaged", "event", "circuit_breaker.workflow_bad", "workflow", text.Short(id), "error", err)
	}
	d.Origin = FromAPI
	l.remember(id, seen{text: record, d: d, bad: bad})
	if bad {
		return Definition{}, unknown(id)
	}
	return d, nil
}

func (l *Library) remembered(id string) (seen, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.seen[id]
	return s, ok
}

func (l *Library) eventsNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events
}

// remember keeps what Redis held; one without text is forgotten. When there is too much, others make room.
func (l *Library) remember(id string, s seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events++
	l.drop(id)
	if s.text == "" {
		delete(l.listed, id)
		return
	}
	for other, o := range l.seen {
		if l.size+len(s.text) <= l.most {
			break
		}
		l.size -= len(o.text)
		delete(l.seen, other)
	}
	s.when = l.events
	l.seen[id] = s
	l.size += len(s.text)
}

// drop forgets a text. The lock is held.
func (l *Library) drop(id string) {
	l.size -= len(l.seen[id].text)
	delete(l.seen, id)
}

// follow keeps a list of what is in Redis, and forgets what is no longer there; but nothing that was read or written since it was asked
// what is there, as events counted then.
func (l *Library) follow(list map[string]Entry, there map[string]string, begun int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed = maps.Clone(list)
	for id, s := range l.seen {
		if _, ok := there[id]; !ok && s.when <= begun {
			l.drop(id)
		}
	}
}

// lastListed is what was in Redis as far as is known here.
func (l *Library) lastListed() map[string]Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]Entry{}
	maps.Copy(out, l.listed)
	for id, s := range l.seen {
		if s.bad {
			delete(out, id)
		} else {
			out[id] = s.d.entry()
		}
	}
	return out
}
