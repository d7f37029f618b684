package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/clientgen"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/client"
)

var errTimeout = errors.New("the agent did not answer")

// call is the call behind the breaker. The agent does not answer.
func call(context.Context) error { return errTimeout }

// exampleServer is the address of a breakerd.
func exampleServer(ctx context.Context) (url string, stop func()) {
	p, err := clientgen.Open(ctx, app.Breakerd())
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(p.Handler)
	p.Start()
	return server.URL, func() {
		p.Stop()
		server.Close()
	}
}

func Example() {
	ctx := context.Background()
	url, stop := exampleServer(ctx)
	defer stop()

	c, err := client.New(client.Options{
		Servers: []string{url}, // http://breakerd-1:18180, http://breakerd-2:18180
		Actor:   "alice",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 5 {
		fmt.Println(c.Do(ctx, "my-agent", call))
	}
	err = c.Do(ctx, "my-agent", call)
	if open, ok := errors.AsType[*breaker.OpenError](err); ok { // it is breaker.ErrOpen: nothing was called
		fmt.Println("refused:", open.Reason, "- ask again in", open.RetryAfter().Round(time.Second))
	}
	for b, err := range c.AllCircuitBreakers(ctx, client.ListQuery{States: []string{"OPEN"}}) {
		fmt.Println(b.AgentID, b.Reason, b.FailureCount, err)
	}
	_, err = c.OpenCircuitBreaker(ctx, "other-agent", client.HoldRequest{Reason: "fraud", TimeoutSeconds: 3600})
	fmt.Println(err)
	// Output:
	// the agent did not answer
	// the agent did not answer
	// the agent did not answer
	// the agent did not answer
	// the agent did not answer
	// refused: open - ask again in 1m0s
	// my-agent consecutive_failures 5 <nil>
	// <nil>
}

// hold opens breakers by hand.
func hold(ctx context.Context, c *client.Client, agents ...string) {
	for _, agent := range agents {
		if _, err := c.OpenCircuitBreaker(ctx, agent, client.HoldRequest{Reason: "fraud"}); err != nil {
			panic(err)
		}
	}
}

func ExampleClient_StreamEvents() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	url, stop := exampleServer(ctx)
	defer stop()
	c, err := client.New(client.Options{Servers: []string{url}})
	if err != nil {
		fmt.Println(err)
		return
	}
	hold(ctx, c, "agent-1", "agent-2")

	seen, err := c.ListFleetEvents(ctx, client.EventQuery{Agent: "agent-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	after := seen.Events[0].ID // "": from now on
	for item, err := range c.StreamEvents(ctx, client.StreamQuery{After: after, Agent: "agent-2"}) {
		switch {
		case err != nil:
			fmt.Println(err) // ctx has ended, or no server will ever answer
		case item.Reset != "":
			fmt.Println("events may be missing: read again what you show")
		default:
			fmt.Println(item.AgentID, item.Event.Event, item.Reason)
		}
		break // item.ID is where another stream goes on
	}
	// Output:
	// agent-2 manual_open fraud
}
