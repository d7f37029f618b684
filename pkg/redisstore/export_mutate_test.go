//go:build mutate

package redisstore

import (
	"crypto/sha1"
	"encoding/hex"
)

// SetScript makes the store run text as verb.
func (s *Store) SetScript(verb, text string) {
	sum := sha1.Sum([]byte(text))
	s.scripts[verb] = script{text: text, sha: hex.EncodeToString(sum[:])}
}
