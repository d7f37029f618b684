package redisstore

import (
	"errors"
	"hash/maphash"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// guesses remembers, of acquires, which breakers were plainly closed when one last asked: for those two plain reads will do, which cost
// the server a fraction of a script. Agents are told apart by a hash, and a guess may be wrong: that costs a second round trip, or
// the script's time, and nothing else.
type guesses struct {
	seed   maphash.Seed
	closed [4096]atomic.Bool
	calm   [4096]atomic.Bool // likewise, whose record went the shortest way: several of those make one script
}

func newGuesses() *guesses { return &guesses{seed: maphash.MakeSeed()} }

func (g *guesses) of(agent string) (closed, calm *atomic.Bool) {
	i := maphash.String(g.seed, agent) % uint64(len(g.closed))
	return &g.closed[i], &g.calm[i]
}

// readPlainly takes the answers to the two reads, of :state and of :control's field plain. The keys may change between them, and
// still there was a moment between the two at which what they say was so: the field is there only while the breaker is plainly
// closed, and names that epoch. Where they do not say so, and the call has no answer, the script decides.
func (c *call) readPlainly(get, hget *redis.Cmd) {
	for _, cmd := range []*redis.Cmd{get, hget} {
		if err := cmd.Err(); err != nil && !errors.As(err, new(redis.Error)) {
			c.err = err
			return
		}
	}
	state, _ := get.Text() // an error leaves it empty
	plain, _ := hget.Text()
	if state == string(machine.Closed) && machine.IsHex16(plain) {
		c.reply = []any{string(machine.CodeOK), state, plain}
	}
}
