package registry

import "github.com/breakerd/breakerd/pkg/breaker"

// ParseFile reads the text of a file over the default policy.
func ParseFile(text string) ([]Agent, error) {
	return parseFile("agents.json", []byte(text), breaker.DefaultPolicy(), nil, 1000)
}

// Kept is how many answers of the store are kept.
func Kept(r *Registry) int {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	return len(r.api.of)
}

// Reading has each reading of the file begin with before.
func (r *Registry) Reading(before func()) {
	r.text = func(path string) ([]byte, error) {
		before()
		return readFile(path)
	}
}
