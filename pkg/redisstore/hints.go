package redisstore

import (
	"errors"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// hints say how an agent's last calls were answered. If a hint is wrong, the call falls back to its script in a second round trip.
type hints struct {
	closed atomic.Bool // plainly closed, to an acquire: two plain reads will do, which cost the server a fraction of a script
	calm   atomic.Bool // in the shortest way, to a record: several of those make one script
}

// readPlainly takes the answers to the two reads, of :state and of :control's field plain. The keys may change between them, and
// still there was a moment between the two at which what they say was so: the field is there only while the breaker is plainly
// closed, and names that epoch. Where they do not say so the call stays unanswered: its script decides.
func (c *call) readPlainly(get, hget *redis.StringCmd) {
	state, err := get.Result()
	plain, err2 := hget.Result()
	for _, err := range [...]error{err, err2} {
		if err != nil && !errors.As(err, new(redis.Error)) {
			c.fail(err)
			return
		}
	}
	if err == nil && err2 == nil && state == string(machine.Closed) && machine.IsHex16(plain) {
		c.answer(machine.Result{Code: machine.CodeOK, State: machine.Closed, Epoch: plain, Plain: true, Fast: true})
	}
}
