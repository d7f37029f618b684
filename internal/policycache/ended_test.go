package policycache

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// oneOverride is a source that has the same override for every agent, and a version that never changes.
type oneOverride struct{ text atomic.Pointer[string] }

func (o *oneOverride) EachOverride(_ context.Context, agents []string) ([]string, map[string]error, error) {
	out := make([]string, len(agents))
	for i := range out {
		out[i] = *o.text.Load()
	}
	return out, nil, nil
}

func (o *oneOverride) OverridesVersion(context.Context) (string, error) { return "1", nil }

func TestCache_OverrideEndsByItself(t *testing.T) {
	t.Parallel()
	source := &oneOverride{}
	at := time.Now().Add(2 * time.Second).Truncate(time.Second)
	source.text.Store(new(`{"failure_threshold":20,"_until":"` + at.UTC().Format(time.RFC3339) + `"}`))
	c := New(Options{
		Default: breaker.DefaultPolicy(), Source: source, Logger: slog.New(slog.DiscardHandler), Every: 10 * time.Millisecond,
	})
	if got := c.Policy(t.Context(), "a").FailureThreshold; got != 20 {
		t.Fatalf("threshold %d before its end", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	testkit.Eventually(t, "the override to end", 10*time.Second, func() error {
		if c.Policy(ctx, "a").FailureThreshold == 20 {
			return context.DeadlineExceeded
		}
		return nil
	})
	if early := time.Until(at); early > 0 {
		t.Errorf("it ended %s early", early)
	}
	if _, origins, err := c.Describe(ctx, "a"); err != nil || origins["failure_threshold"] == OverrideOrigin {
		t.Errorf("origins %v, %v", origins, err)
	}
}
