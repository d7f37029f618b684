package breakergrpc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// stateTrailer has the state of a breaker that refuses: OPEN or HALF_OPEN.
const stateTrailer = "x-circuit-breaker-state"

// ServerOptions configures the interceptors of a server. Agent is required. Its functions are called concurrently.
type ServerOptions struct {
	// Agent names the agent that calls, such as [FromMetadata] and [FromCertificate], for a full method (as
	// /package.Service/Method). The name must be proven (by a token, a client certificate, a proxy that sets the
	// metadata itself): whoever can call under another's name can have the other kept out. "": the call is not guarded,
	// as health checks may be. An error, or a bad name, is answered with InvalidArgument; the answer shows the error's
	// text if it is a breaker.ErrBadName.
	Agent func(ctx context.Context, method string) (string, error)
	// Classify makes an outcome of the status with which a handler has returned. It is not asked about a call whose
	// context has ended. nil: [InboundOutcome] of its code.
	Classify func(ctx context.Context, method string, s *status.Status) breaker.Outcome
	Logger   *slog.Logger // nil: silent
}

// FromMetadata names the caller by the metadata of a key, which the call must have once.
func FromMetadata(key string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, _ string) (string, error) {
		values := metadata.ValueFromIncomingContext(ctx, key)
		if len(values) != 1 || !breaker.ValidName(values[0]) {
			return "", fmt.Errorf("metadata %s: %w", key, breaker.ErrBadName)
		}
		return values[0], nil
	}
}

// FromCertificate names the caller by its verified client certificate: by the first of its DNS names or, if it has
// none, by the common name of its subject. The server must verify certificates, as tls.RequireAndVerifyClientCert does.
func FromCertificate() func(context.Context, string) (string, error) {
	return func(ctx context.Context, _ string) (string, error) {
		cert := verified(ctx)
		if cert == nil {
			return "", fmt.Errorf("no verified client certificate: %w", breaker.ErrBadName)
		}
		name := cert.Subject.CommonName
		if len(cert.DNSNames) > 0 {
			name = cert.DNSNames[0]
		}
		if !breaker.ValidName(name) {
			return "", fmt.Errorf("client certificate: %w", breaker.ErrBadName)
		}
		return name, nil
	}
}

// verified returns the verified certificate of the caller, or nil.
func verified(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

// UnaryServerInterceptor guards the unary calls of a server by the breakers of c, one for each agent that calls.
func UnaryServerInterceptor(c breaker.Caller, o ServerOptions) grpc.UnaryServerInterceptor {
	sv := &server{ServerOptions: o, manager: managerOf(c)}
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		setTrailer := func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) } // fails where a test calls without a transport
		g, inside, err := sv.begin(ctx, info.FullMethod, setTrailer)
		switch {
		case err != nil:
			return nil, err
		case g == nil:
			return handler(ctx, req)
		}
		defer g.settle(ctx, ignored("panic")) // unless it is settled before
		resp, err := handler(inside, req)
		g.settle(ctx, sv.outcome(ctx, g.agent, info.FullMethod, err))
		return resp, err
	}
}

// StreamServerInterceptor guards the streams of a server by the breakers of c, one for each agent that calls.
func StreamServerInterceptor(c breaker.Caller, o ServerOptions) grpc.StreamServerInterceptor {
	sv := &server{ServerOptions: o, manager: managerOf(c)}
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx := ss.Context()
		g, inside, err := sv.begin(ctx, info.FullMethod, ss.SetTrailer)
		switch {
		case err != nil:
			return err
		case g == nil:
			return handler(srv, ss)
		}
		if g.permit.State() == breaker.HalfOpen {
			ss = &serverStream{ss, inside}
		}
		defer g.settle(ctx, ignored("panic")) // unless it is settled before
		err = handler(srv, ss)
		g.settle(ctx, sv.outcome(ctx, g.agent, info.FullMethod, err))
		return err
	}
}

// serverStream is a stream whose context carries a probe's permit.
type serverStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // what Context returns
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// server is what the interceptors of a server have in common.
type server struct {
	ServerOptions

	manager *breaker.Manager // nil: not set
}

// begin acquires a permit for a call, whose handler is to work under the context that begin returns. No guard and no
// error: the call is not guarded. The error is a status.
func (sv *server) begin(
	ctx context.Context, method string, setTrailer func(metadata.MD),
) (*guard, context.Context, error) {
	if sv.Agent == nil || sv.manager == nil {
		return nil, ctx, status.Error(codes.Internal, "the interceptor's Caller or ServerOptions.Agent is not set")
	}
	agent, err := sv.Agent(ctx, method)
	if err == nil && agent == "" {
		return nil, ctx, nil
	}
	var g *guard
	inside := ctx
	if err == nil {
		g, inside, err = enter(ctx, sv.manager, agent, sv.Logger)
	} else if !errors.Is(err, breaker.ErrBadName) {
		sv.warn(ctx, "caller not named", "error", err)
		err = breaker.ErrBadName
	}
	switch open, refused := asRefusal(err); {
	case err == nil:
		return g, inside, nil
	case refused:
		if open.State != "" {
			setTrailer(metadata.Pairs(stateTrailer, open.State.Upper()))
		}
		return nil, ctx, refusal(open, inboundCode(open.Reason))
	case errors.Is(err, breaker.ErrBadName):
		return nil, ctx, status.Error(codes.InvalidArgument, err.Error())
	case ctx.Err() == nil:
		sv.warn(ctx, "breaker not asked", "agent", agent, "error", err)
	}
	return nil, ctx, failed(ctx, err, "the store of the circuit breakers does not answer; nothing was done")
}

func (sv *server) warn(ctx context.Context, text string, args ...any) {
	if sv.Logger != nil {
		sv.Logger.WarnContext(ctx, text, args...)
	}
}

// outcome is the outcome of a call whose handler has returned err.
func (sv *server) outcome(ctx context.Context, agent, method string, err error) breaker.Outcome {
	if ctx.Err() != nil { // and the caller is gone
		return ignored("cancelled")
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err) // as gRPC makes it
	}
	standard := func() breaker.Outcome { return InboundOutcome(s.Code()) }
	if sv.Classify == nil {
		return standard()
	}
	user := func() breaker.Outcome { return sv.Classify(ctx, method, s) }
	return classified(sv.Logger, agent, user, standard)
}
