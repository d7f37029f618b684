package replica

import (
	"context"
	"strconv"
	"sync"

	"github.com/breakerd/breakerd/internal/policycache"
)

// ownOverrides are the overrides of a replica without Redis, in its memory.
type ownOverrides struct {
	mu      sync.Mutex
	texts   map[string]string // JSON
	version int
}

var _ policycache.Source = (*ownOverrides)(nil)

func newOwnOverrides() *ownOverrides { return &ownOverrides{texts: map[string]string{}} }

// put replaces an override; "" deletes it.
func (o *ownOverrides) put(agent, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version++
	if text == "" {
		delete(o.texts, agent)
		return
	}
	o.texts[agent] = text
}

// EachOverride implements [policycache.Source].
func (o *ownOverrides) EachOverride(
	_ context.Context, agents []string,
) (texts []string, refused map[string]error, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, agent := range agents {
		texts = append(texts, o.texts[agent])
	}
	return texts, nil, nil
}

// OverridesVersion implements [policycache.Source].
func (o *ownOverrides) OverridesVersion(context.Context) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strconv.Itoa(o.version), nil
}
