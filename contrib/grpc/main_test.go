package breakergrpc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/breakerd/breakerd/contrib/grpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent is a gRPC server whose methods are functions of the test. nil ones answer at once.
type agent struct {
	pb.UnimplementedTestServiceServer

	unary  func(context.Context) error
	output func(pb.TestService_StreamingOutputCallServer) error
	input  func(pb.TestService_StreamingInputCallServer) error
	duplex func(pb.TestService_FullDuplexCallServer) error
}

func (a *agent) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	if a.unary == nil {
		return &pb.Empty{}, nil
	}
	return &pb.Empty{}, a.unary(ctx)
}

func (a *agent) StreamingOutputCall(
	_ *pb.StreamingOutputCallRequest, s pb.TestService_StreamingOutputCallServer,
) error {
	return a.output(s)
}

func (a *agent) StreamingInputCall(s pb.TestService_StreamingInputCallServer) error {
	return a.input(s)
}
func (a *agent) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error { return a.duplex(s) }

// recorder keeps the outcomes that were settled.
type recorder struct {
	breaker.NopObserver

	settled chan breaker.Outcome
	last    atomic.Value // of names of agents
}

func (r *recorder) Settled(agent string, o breaker.Outcome, _ breaker.Report) {
	r.last.Store(agent)
	r.settled <- o
}

func (r *recorder) agent() string { name, _ := r.last.Load().(string); return name }

// buffer is a bytes.Buffer that goroutines share.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// rig is a client, a server and a breaker in memory.
type rig struct {
	*agent

	manager *breaker.Manager
	seen    *recorder
	log     *buffer
	conn    *grpc.ClientConn
	client  pb.TestServiceClient
}

type rigOptions struct {
	policy breaker.Policy
	store  breaker.Store              // nil: in memory
	client *breakergrpc.ClientOptions // nil: the client is not guarded
	server *breakergrpc.ServerOptions // nil: the server is not guarded
	dial   []grpc.DialOption
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if o.store == nil {
		o.store = breaker.NewMemory(nil, 0)
	}
	r := &rig{agent: &agent{}, seen: &recorder{settled: make(chan breaker.Outcome, 100)}, log: &buffer{}}
	log := r.logger()
	var err error
	r.manager, err = breaker.NewManager(breaker.Options{Store: o.store, Observer: r.seen, Policy: o.policy})
	if err != nil {
		t.Fatal(err)
	}
	var serve []grpc.ServerOption
	if o.server != nil {
		o.server.Logger = log
		serve = append(serve,
			grpc.ChainUnaryInterceptor(recovering, breakergrpc.UnaryServerInterceptor(r.manager, *o.server)),
			grpc.ChainStreamInterceptor(breakergrpc.StreamServerInterceptor(r.manager, *o.server)))
	}
	dial := append([]grpc.DialOption{}, o.dial...)
	if o.client != nil {
		o.client.Logger = log
		dial = append(dial,
			grpc.WithChainUnaryInterceptor(breakergrpc.UnaryClientInterceptor(r.manager, *o.client)),
			grpc.WithChainStreamInterceptor(breakergrpc.StreamClientInterceptor(r.manager, *o.client)))
	}
	r.serve(t, serve, dial)
	return r
}

func (r *rig) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r.log, nil)) }

func (r *rig) serve(t *testing.T, serve []grpc.ServerOption, dial []grpc.DialOption) {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(serve...)
	pb.RegisterTestServiceServer(server, r.agent)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	dial = append(dial, grpc.WithTransportCredentials(insecureCredentials),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	var err error
	r.conn, err = grpc.NewClient("passthrough:///Agent.Example:50051", dial...)
	if err != nil {
		t.Fatal(err)
	}
	r.client = pb.NewTestServiceClient(r.conn)
	t.Cleanup(func() {
		_ = r.conn.Close()
		server.Stop()
		<-served
		if r.manager != nil {
			_ = r.manager.Close(context.WithoutCancel(t.Context()))
		}
	})
}

var insecureCredentials = insecure.NewCredentials()

func nothing(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
	return nil
}

const agentName = "agent.example:50051"

func (r *rig) call(ctx context.Context, opts ...grpc.CallOption) error {
	_, err := r.client.EmptyCall(ctx, &pb.Empty{}, opts...)
	return err
}

// outcome returns the outcome of a call that has ended, or ends soon.
func (r *rig) outcome(t *testing.T, kind breaker.OutcomeKind, class string) breaker.Outcome {
	t.Helper()
	select {
	case o := <-r.seen.settled:
		if o.Kind != kind || o.Class != class {
			t.Errorf("outcome %s %q, want %s %q", o.Kind, o.Class, kind, class)
		}
		return o
	case <-time.After(10 * time.Second):
		t.Fatal("no outcome was settled")
		return breaker.Outcome{}
	}
}

// settledAlready returns the outcome of a call that must have ended.
func (r *rig) settledAlready(t *testing.T, kind breaker.OutcomeKind, class string) breaker.Outcome {
	t.Helper()
	if len(r.seen.settled) != 1 {
		t.Fatalf("%d outcomes, want one, before the caller sees the end", len(r.seen.settled))
	}
	return r.outcome(t, kind, class)
}

func (r *rig) nothingSettled(t *testing.T) {
	t.Helper()
	if n := len(r.seen.settled); n != 0 {
		t.Errorf("%d outcomes, want none", n)
	}
}

// halfOpen makes a's breaker half-open.
func (r *rig) halfOpen(t *testing.T, a string) {
	t.Helper()
	_, err := r.manager.Force(t.Context(), a, breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) state(t *testing.T, a string) breaker.State {
	t.Helper()
	v, _, err := r.manager.Inspect(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return v.State
}

func refused(t *testing.T, err error, reason breaker.Reason) *breaker.OpenError {
	t.Helper()
	var open *breaker.OpenError
	if !errors.As(err, &open) || !errors.Is(err, breaker.ErrOpen) || open.Reason != reason {
		t.Fatalf("error %v, want a refusal: %s", err, reason)
	}
	return open
}

// recovering is what servers put around their interceptors: a panic becomes a status.
func recovering(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (resp any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = status.Errorf(codes.Internal, "panic: %v", v)
		}
	}()
	return handler(ctx, req)
}
