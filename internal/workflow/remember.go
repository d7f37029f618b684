package workflow

import "maps"

// take reads a text that came from Redis, and remembers it. "" and a damaged one are ErrUnknown. Which agents there are is not
// asked again: one that has gone since is the execution's trouble.
func (l *Library) take(id, text string) (Definition, error) {
	if old, ok := l.remembered(id); ok && old.text == text {
		if old.bad {
			return Definition{}, unknown(id)
		}
		return old.d, nil
	}
	if text == "" {
		l.remember(id, seen{})
		return Definition{}, unknown(id)
	}
	d, err := ParseDefinition([]byte(text), nil)
	bad := err != nil || d.ID != id
	if bad {
		l.o.Logger.Warn("workflow in Redis is damaged", "event", "circuit_breaker.workflow_bad", "workflow", clip(id, 64), "error", err)
	}
	d.Origin = FromAPI
	l.remember(id, seen{text: text, d: d, bad: bad})
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

func (l *Library) allRemembered() map[string]seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.seen)
}

// remember keeps what Redis held; one without text is forgotten. When there is too much, others make room.
func (l *Library) remember(id string, s seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size -= len(l.seen[id].text)
	delete(l.seen, id)
	if s.text == "" {
		return
	}
	for other, o := range l.seen {
		if l.size+len(s.text) <= l.most {
			break
		}
		l.size -= len(o.text)
		delete(l.seen, other)
	}
	l.seen[id] = s
	l.size += len(s.text)
}

// forgetOthers forgets what is no longer in Redis.
func (l *Library) forgetOthers(texts map[string]string) {
	for id := range l.allRemembered() {
		if _, ok := texts[id]; !ok {
			l.remember(id, seen{})
		}
	}
}
