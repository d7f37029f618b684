//go:build mutate

package redisstore

// SetScript makes the store run text as verb.
func (s *Store) SetScript(verb, text string) { s.scripts[verb] = newScript(text) }
