package registry

import (
	"github.com/breakerd/breakerd/internal/filewatch"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// ParseFile parses the text of a file over the default policy.
func ParseFile(text string) ([]Agent, error) {
	return parseFile("agents.json", []byte(text), breaker.DefaultPolicy(), nil, 1000)
}

// Cached returns how many answers of the store are cached.
func Cached(r *Registry) int { return len(r.api.Entries()) }

// BeforeRead has each read of the file begin with before.
func (r *Registry) BeforeRead(before func()) {
	r.watched.Read = func(path string, most int64, seen filewatch.Sight) ([]byte, filewatch.Sight, error) {
		before()
		return filewatch.Read(path, most, seen)
	}
}
