package doctor

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

// Sources are the servers that are asked.
type Sources struct {
	// Fleet is asked about the fleet and the agent: any server may answer.
	Fleet *client.Client
	// Each is asked about itself, by its address.
	Each map[string]*client.Client
	// Within is how long each question may take; 0: 5 s.
	Within time.Duration
}

// mostReviewed bounds a list that a review reads.
const mostReviewed = 1000

// Gather asks all questions at once. What could not be had is an error in its [Fact].
func Gather(ctx context.Context, s Sources, agent string) *Facts {
	g := &gathering{within: cmp.Or(s.Within, 5*time.Second)}
	f := &Facts{Agent: agent, Now: time.Now(), Servers: make([]Server, len(s.Each))}
	for i, address := range slices.Sorted(maps.Keys(s.Each)) {
		f.Servers[i].Address = address
		ask(ctx, g, &f.Servers[i].Health, s.Each[address].HealthChecks)
	}
	ask(ctx, g, &f.Gate, s.Fleet.GetFleet)
	ask(ctx, g, &f.Replicas, s.Fleet.ListReplicas)
	if agent == "" {
		ask(ctx, g, &f.Summary, s.Fleet.GetSummary)
		list := func(into *Fact[client.BreakerList], q client.ListQuery) {
			q.Limit = mostReviewed
			ask(ctx, g, into, func(ctx context.Context) (client.BreakerList, error) {
				return s.Fleet.ListCircuitBreakers(ctx, q)
			})
		}
		list(&f.Held, client.ListQuery{Holds: []string{"any"}, Include: []string{"seen"}})
		list(&f.Overridden, client.ListQuery{Override: "any", Include: []string{"override"}})
		list(&f.Open, client.ListQuery{States: []string{open}, Holds: []string{"none"}, Sort: "opened_at"})
	} else {
		of(ctx, g, &f.Breaker, s.Fleet.GetCircuitBreaker, agent)
		of(ctx, g, &f.Explanation, s.Fleet.ExplainCircuitBreaker, agent)
		of(ctx, g, &f.Override, s.Fleet.GetConfig, agent)
		of(ctx, g, &f.Profile, s.Fleet.GetAgent, agent)
		of(ctx, g, &f.Events, s.Fleet.ListEvents, agent)
	}
	g.Wait()
	return f
}

// gathering is what all questions have in common.
type gathering struct {
	sync.WaitGroup

	within time.Duration
}

// ask asks one question in the background.
func ask[T any](ctx context.Context, g *gathering, into *Fact[T], question func(context.Context) (T, error)) {
	into.Asked = true
	g.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, g.within)
		defer cancel()
		into.Value, into.Err = question(ctx)
	})
}

// of asks one question about an agent.
func of[T any](
	ctx context.Context, g *gathering, into *Fact[T], question func(context.Context, string) (T, error), agent string,
) {
	ask(ctx, g, into, func(ctx context.Context) (T, error) { return question(ctx, agent) })
}
