package redisstore

import (
	"context"
	"strconv"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// SetNow makes the store's clock an argument of the test.
func (s *Store) SetNow(nowMs func() int64) {
	s.nowMs = func() string { return strconv.FormatInt(nowMs(), 10) }
}

// Raw reads the keys as inspect does.
func (s *Store) Raw(ctx context.Context, agent string) (breaker.Raw, error) {
	reply, err := s.script(ctx, "inspect", s.keys.Machine(agent), []any{s.nowMs()})
	if err != nil {
		return breaker.Raw{}, err
	}
	raw, _, err := parseRaw(reply)
	return raw, err
}
