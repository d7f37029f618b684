package breakergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/breakerd/breakerd/contrib/grpc"
)

// A client whose calls go through one breaker for each agent, here the server at 127.0.0.1.
func Example() {
	target, stop := broken()
	defer stop()
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{FailureThreshold: 2},
	})
	if err != nil {
		panic(err)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(breakergrpc.UnaryClientInterceptor(m, breakergrpc.ClientOptions{})),
		grpc.WithChainStreamInterceptor(breakergrpc.StreamClientInterceptor(m, breakergrpc.ClientOptions{})))
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()

	for range 3 {
		_, err := pb.NewTestServiceClient(conn).EmptyCall(context.Background(), &pb.Empty{})
		if open, refused := errors.AsType[*breaker.OpenError](err); refused {
			fmt.Println("refused:", open.Reason, "retry after", open.RetryAfter().Round(time.Second))
		}
		fmt.Println(status.Code(err))
	}
	// Output:
	// Internal
	// Internal
	// refused: open retry after 1m0s
	// Unavailable
}

// Classify by method: here a search that finds nothing is an answer, and everything else is as usual.
func ExampleClientOptions() {
	o := breakergrpc.ClientOptions{
		Agent: func(_ context.Context, _, method string) string {
			if method == "/grpc.health.v1.Health/Check" {
				return "" // without a breaker
			}
			return "search"
		},
		Classify: func(ctx context.Context, c breakergrpc.Call) breaker.Outcome {
			if c.Method == "/search.Search/Find" && status.Code(c.Err) == codes.NotFound {
				return breaker.Outcome{Kind: breaker.Success}
			}
			return breakergrpc.Outcome(ctx, c.Err)
		},
	}
	fmt.Println(o.Classify(context.Background(), breakergrpc.Call{
		Method: "/search.Search/Find", Err: status.Error(codes.NotFound, "nothing found"),
	}).Kind)
	// Output: success
}

// A server that keeps out agents which flood it with bad requests. Here a proxy in front of it sets x-agent.
func ExampleUnaryServerInterceptor() {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	if err != nil {
		panic(err)
	}
	o := breakergrpc.ServerOptions{Agent: breakergrpc.FromMetadata("x-agent")}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(breakergrpc.UnaryServerInterceptor(m, o)),
		grpc.ChainStreamInterceptor(breakergrpc.StreamServerInterceptor(m, o)))
	pb.RegisterTestServiceServer(server, pb.UnimplementedTestServiceServer{})
	target, stop := listen(server)
	defer stop()

	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-agent", "reader")
	banned := breaker.Force{Target: breaker.HoldOpen, LengthMs: 60_000, Actor: "operator", Reason: "scans us"}
	if _, err := m.Force(ctx, "reader", banned); err != nil {
		panic(err)
	}
	var trailer metadata.MD
	_, err = pb.NewTestServiceClient(conn).EmptyCall(ctx, &pb.Empty{}, grpc.Trailer(&trailer))
	fmt.Println(status.Code(err), trailer.Get("x-circuit-breaker-state"))
	// Output: ResourceExhausted [OPEN]
}

// broken is a server whose calls fail.
func broken() (target string, stop func()) {
	server := grpc.NewServer()
	pb.RegisterTestServiceServer(server, &agent{unary: func(context.Context) error {
		return status.Error(codes.Internal, "broken")
	}})
	return listen(server)
}

func listen(server *grpc.Server) (target string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), server.Stop
}
