package registry

import "github.com/breakerd/breakerd/pkg/breaker"

// ParseFile reads the text of a file over the default policy.
func ParseFile(text string) ([]Agent, error) {
	return parseFile("agents.json", []byte(text), breaker.DefaultPolicy(), nil, 1000)
}

// Cached returns how many answers of the store are cached.
func Cached(r *Registry) int { return len(r.api.Entries()) }

// Reading has each reading of the file begin with before.
func (r *Registry) Reading(before func()) {
	r.text = func(path string) ([]byte, error) {
		before()
		return readFile(path)
	}
}
