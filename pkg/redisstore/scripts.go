package redisstore

import (
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/lua"
)

// script is one verb's text and the SHA-1 by which Redis names it. A redis.Script would not give its text back.
type script struct{ text, sha string }

func newScript(text string) script { return script{text: text, sha: redis.NewScript(text).Hash()} }

func loadScripts() (map[string]script, error) {
	out := map[string]script{}
	for _, verb := range lua.Verbs() {
		text, err := lua.Source(verb)
		if err != nil {
			return nil, err
		}
		out[verb] = newScript(text)
	}
	return out, nil
}

// once and its like are commands that no client, a Cluster's neither, sends a second time by itself: a script that
// timed out may have run.
type (
	once       struct{ *redis.Cmd }
	onceString struct{ *redis.StringCmd }
	onceInts   struct{ *redis.IntSliceCmd }
)

// NoRetry is what go-redis asks.
func (once) NoRetry() bool { return true }

// NoRetry is what go-redis asks.
func (onceString) NoRetry() bool { return true }

// NoRetry is what go-redis asks.
func (onceInts) NoRetry() bool { return true }
