package redisstore

import (
	"crypto/sha1" //nolint:gosec // SCRIPT names are SHA-1 by Redis's own definition
	"encoding/hex"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/lua"
)

// script is one verb's text and the name by which Redis keeps it.
type script struct{ text, sha string }

func loadScripts() (map[string]script, error) {
	out := map[string]script{}
	for _, verb := range lua.Verbs() {
		text, err := lua.Source(verb)
		if err != nil {
			return nil, err
		}
		sum := sha1.Sum([]byte(text)) //nolint:gosec // see above
		out[verb] = script{text: text, sha: hex.EncodeToString(sum[:])}
	}
	return out, nil
}

// once is a command that no client may send a second time by itself: a script that timed out may have run.
type once struct{ *redis.Cmd }

// NoRetry tells go-redis, its cluster client included, to leave the second try to us.
func (once) NoRetry() bool { return true }
