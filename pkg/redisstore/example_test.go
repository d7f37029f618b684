package redisstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

// Two managers stand for two replicas. A fleet's URL is redis://host:6379/0 for instance, and needs no Embedded.
func Example() {
	ctx := context.Background()
	conn, err := redisstore.Open(ctx, "embedded://", redisstore.Options{Embedded: embedded.Start})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Check(ctx); err != nil { // a wrong password, an old server, no server
		fmt.Println(err)
		return
	}
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}

	var replicas [2]*breaker.Manager
	for i := range replicas {
		if replicas[i], err = breaker.NewManager(breaker.Options{Store: store}); err != nil {
			fmt.Println(err)
			return
		}
	}
	for range 5 {
		permit, err := replicas[0].Acquire(ctx, "my-agent")
		if err != nil {
			fmt.Println(err)
			return
		}
		_, _ = permit.Settle(ctx, breaker.Outcome{Kind: breaker.Failure})
	}
	_, err = replicas[1].Acquire(ctx, "my-agent")
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		fmt.Println("refused by the other replica too:", open.Reason)
	}
	// Output: refused by the other replica too: open
}
