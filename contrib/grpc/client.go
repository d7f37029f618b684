package breakergrpc

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// ClientOptions configures the interceptors of a client. Every zero value is usable. Its functions are called
// concurrently.
type ClientOptions struct {
	// Agent names whom a call calls, from the target of its connection (as dns:///example.com:50051), its full method (as
	// /package.Service/Method) and the metadata in ctx. "": the call is made without a breaker. nil: the host and port
	// of the target, as breakerhttp.HostName gives them, without port 443: example.com:50051, example.com, ip6---1. The
	// calls of a connection whose target gives no valid name, such as unix:///run/agent.sock, are then made without a
	// breaker, which is logged once.
	Agent func(ctx context.Context, target, method string) string
	// Classify makes an outcome of a call that has ended. It is not asked about a call that its caller cancelled or left.
	// nil: [Outcome].
	Classify func(ctx context.Context, c Call) breaker.Outcome
	Logger   *slog.Logger // nil: silent
}

// Call is what ClientOptions.Classify is asked about: a call that has ended.
type Call struct {
	Agent    string
	Method   string // in full, as /package.Service/Method
	Err      error  // as the caller gets it; nil: OK
	Messages int    // received, on a stream
}

// UnaryClientInterceptor guards the unary calls of a client by the breakers of c.
func UnaryClientInterceptor(c breaker.Caller, o ClientOptions) grpc.UnaryClientInterceptor {
	cl := newClient(c, o)
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker,
		opts ...grpc.CallOption,
	) error {
		call, ctx, err := cl.begin(ctx, method, cc)
		switch {
		case err != nil:
			return err
		case call == nil:
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		defer call.settlePanic()
		err = invoker(ctx, method, req, reply, cc, opts...)
		call.end(err)
		return err
	}
}

// StreamClientInterceptor guards the streams of a client by the breakers of c.
func StreamClientInterceptor(c breaker.Caller, o ClientOptions) grpc.StreamClientInterceptor {
	cl := newClient(c, o)
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer,
		opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		call, ctx, err := cl.begin(ctx, method, cc)
		switch {
		case err != nil:
			return nil, err
		case call == nil:
			return streamer(ctx, desc, cc, method, opts...)
		}
		returned := false
		defer func() {
			if !returned {
				call.settlePanic()
			}
		}()
		s, err := streamer(ctx, desc, cc, method, opts...)
		returned = true
		if err != nil {
			call.end(err)
			return nil, err
		}
		return followStream(s, call, desc.ServerStreams), nil
	}
}

// client is what the interceptors of a client have in common.
type client struct {
	ClientOptions

	manager *breaker.Manager // nil: not set
	targets targets
}

func newClient(c breaker.Caller, o ClientOptions) *client {
	return &client{ClientOptions: o, manager: managerOf(c)}
}

// managerOf returns c's Manager, or nil.
func managerOf(c breaker.Caller) *breaker.Manager {
	if c == nil {
		return nil
	}
	return c.Manager()
}

// begin acquires a permit for a call, which is to be made under the context that begin returns. No call and no error:
// without a breaker.
func (cl *client) begin(ctx context.Context, method string, cc *grpc.ClientConn) (*call, context.Context, error) {
	agent := cl.agent(ctx, method, cc)
	if agent == "" {
		return nil, ctx, nil
	}
	g, inside, err := enter(ctx, cl.manager, agent, cl.Logger)
	switch open, refused := asRefusal(err); {
	case refused:
		return nil, ctx, refusal(open, codes.Unavailable)
	case err != nil:
		return nil, ctx, failed(ctx, err, fmt.Sprintf("ask the breaker of agent %q: %v", agent, err))
	}
	return &call{guard: g, cl: cl, ctx: ctx, method: method, cc: cc, start: time.Now()}, inside, nil
}

func (cl *client) agent(ctx context.Context, method string, cc *grpc.ClientConn) string {
	target := ""
	if cc != nil {
		target = cc.CanonicalTarget()
	}
	if cl.Agent != nil {
		return cl.Agent(ctx, target, method)
	}
	name, first := cl.targets.name(target)
	if name == "" && first && cl.Logger != nil {
		cl.Logger.WarnContext(ctx, "called without a breaker: the target gives no valid name for an agent",
			"target", fmt.Sprintf("%.128q", target))
	}
	return name
}

// call is one admitted call out.
type call struct {
	*guard

	cl       *client
	ctx      context.Context //nolint:containedctx // the caller's
	method   string
	cc       *grpc.ClientConn
	start    time.Time
	messages atomic.Int64 // received, on a stream
	first    atomic.Int64 // from start to the first of them, a time.Duration
}

// received notes a message of a stream.
func (c *call) received() {
	if c.messages.Add(1) == 1 {
		c.first.Store(int64(time.Since(c.start)))
	}
}

// end settles the call by the error with which it ended.
func (c *call) end(err error) { c.settle(c.outcome(err)) }

// settlePanic settles a call that has not returned.
func (c *call) settlePanic() { c.settle(breaker.Outcome{Kind: breaker.Failure, Class: "panic"}) }

func (c *call) settle(o breaker.Outcome) {
	if o.Duration == 0 {
		o.Duration = cmp.Or(time.Duration(c.first.Load()), time.Since(c.start))
	}
	c.guard.settle(c.ctx, o)
}

func (c *call) outcome(err error) breaker.Outcome {
	if err != nil && (cancelled(c.ctx) || status.Code(err) == codes.Canceled && c.closed()) {
		return ignored("cancelled")
	}
	standard := func() breaker.Outcome { return Outcome(c.ctx, err) }
	if c.cl.Classify == nil {
		return standard()
	}
	return classified(c.cl.Logger, c.agent, func() breaker.Outcome {
		return c.cl.Classify(c.ctx, Call{Agent: c.agent, Method: c.method, Err: err, Messages: int(c.messages.Load())})
	}, standard)
}

// closed says that the caller has closed the connection.
func (c *call) closed() bool { return c.cc != nil && c.cc.GetState() == connectivity.Shutdown }
