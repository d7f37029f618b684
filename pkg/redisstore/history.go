package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Minutes is what was called of an agent, the oldest minute first: as far back as :history goes, and what the window
// holds. kept is Config.History. nowMs is the server's clock. It is for authors of replicas.
func (s *Store) Minutes(
	ctx context.Context, agent string,
) (minutes []machine.Minute, kept int, nowMs int64, err error) {
	raw, nowMs, err := s.read(ctx, agent)
	if err != nil {
		return nil, 0, 0, err
	}
	return machine.Minutes(raw), int(s.history), nowMs, nil
}

// StreamEntry is one entry of the stream or of the audit.
type StreamEntry struct {
	ID    string // "ms-seq"
	Agent string // "-": the event is no agent's
	Event breaker.Event
}

// ReadStream reads at most n entries of a stream, which is [Keys.Stream] or [Keys.Audit], between two ids, both
// included: in order, or, if reverse, the last ones first. An entry that is no event has only its ID. A key of another
// type reads as an empty stream [B20]. It is for authors of replicas.
func (s *Store) ReadStream(
	ctx context.Context, stream, from, to string, n int64, reverse bool,
) ([]StreamEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var read []redis.XMessage
	var err error
	if reverse {
		read, err = planted(s.client.XRevRangeN(ctx, stream, to, from, n).Result())
	} else {
		read, err = planted(s.client.XRangeN(ctx, stream, from, to, n).Result())
	}
	if err != nil {
		return nil, WrapError("read stream", "", err)
	}
	entries := make([]StreamEntry, len(read))
	for i, entry := range read {
		entries[i].ID = entry.ID
		agent, line := fieldsOf(entry)
		if e, ok := parseLine(agent, line); ok {
			entries[i].Agent, entries[i].Event = agent, e
		}
	}
	return entries, nil
}
