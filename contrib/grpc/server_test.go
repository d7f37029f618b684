package breakergrpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/breakerd/breakerd/contrib/grpc"
)

func guardedServer(edit ...func(*breakergrpc.ServerOptions)) rigOptions {
	o := &breakergrpc.ServerOptions{Agent: breakergrpc.FromMetadata("agent")}
	for _, e := range edit {
		e(o)
	}
	return rigOptions{server: o}
}

// as is a context of a call by an agent.
func as(t *testing.T, agent string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "agent", agent)
}

func TestServer_KeepsAnAgentOutThatFloodsItWithBadRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedServer())
	r.unary = func(context.Context) error { return status.Error(codes.InvalidArgument, "what?") }
	for range 5 {
		if err := r.call(as(t, "bad")); status.Code(err) != codes.InvalidArgument {
			t.Fatal(err)
		}
		r.settledAlready(t, breaker.Failure, "grpc_invalid_argument")
	}
	r.unary = func(context.Context) error { return nil }
	var trailer metadata.MD
	err := r.call(as(t, "bad"), grpc.Trailer(&trailer))
	s := status.Convert(err)
	if s.Code() != codes.ResourceExhausted || !strings.Contains(s.Message(), `"bad"`) {
		t.Errorf("status %v", s)
	}
	if got := trailer.Get("x-circuit-breaker-state"); len(got) != 1 || got[0] != "OPEN" {
		t.Errorf("trailer %v", trailer)
	}
	if o := breakergrpc.Outcome(t.Context(), err); o.RetryAfter < 50*time.Second || o.Kind != breaker.Failure {
		t.Errorf("the caller's own breaker learns %+v", o)
	}
	stream, err := r.client.FullDuplexCall(as(t, "bad"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if got := stream.Trailer().Get("x-circuit-breaker-state"); len(got) != 1 {
		t.Errorf("trailer %v", stream.Trailer())
	}
	if err := r.call(as(t, "good")); err != nil { // another agent has another breaker
		t.Error(err)
	}
}

func TestServer_RefusesWithTheCodeOfTheReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[breaker.Reason]codes.Code{
		breaker.ReasonOpen:             codes.ResourceExhausted,
		breaker.ReasonForcedOpen:       codes.ResourceExhausted,
		breaker.ReasonProbesBusy:       codes.ResourceExhausted,
		breaker.ReasonRamping:          codes.ResourceExhausted,
		breaker.ReasonTooManyAgents:    codes.ResourceExhausted,
		breaker.ReasonStoreUnavailable: codes.Unavailable,
		breaker.ReasonEmergencyStop:    codes.Unavailable,
		breaker.ReasonShedding:         codes.Unavailable,
	} {
		o := guardedServer()
		o.store = brokenStore{err: &breaker.OpenError{Agent: "a", Reason: reason}}
		r := newRig(t, o)
		s := status.Convert(r.call(as(t, "a")))
		if s.Code() != want {
			t.Errorf("%s: %s, want %s", reason, s.Code(), want)
		}
		info, ok := s.Details()[1].(*errdetails.ErrorInfo)
		if !ok || info.GetMetadata()["reason"] != string(reason) || (info.GetReason() == "TOO_MANY_AGENTS") != (reason == breaker.ReasonTooManyAgents) {
			t.Errorf("%s: %v", reason, s.Details())
		}
		if wait, ok := s.Details()[0].(*errdetails.RetryInfo); !ok || wait.GetRetryDelay().AsDuration() != time.Second {
			t.Errorf("%s: %v, want a second where the breaker says nothing", reason, s.Details())
		}
	}
}

func TestServer_ItsOwnFaultsAreIgnored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		unary func(context.Context) error
		code  codes.Code
		kind  breaker.OutcomeKind
		class string
	}{
		"status":        {func(context.Context) error { return status.Error(codes.Unavailable, "") }, codes.Unavailable, breaker.Ignored, "grpc_unavailable"},
		"error":         {func(context.Context) error { return errors.New("x") }, codes.Unknown, breaker.Ignored, "grpc_unknown"},
		"context error": {func(context.Context) error { return context.DeadlineExceeded }, codes.DeadlineExceeded, breaker.Ignored, "timeout"},
		"panic":         {func(context.Context) error { panic("handler") }, codes.Internal, breaker.Ignored, "panic"},
		"not found":     {func(context.Context) error { return status.Error(codes.NotFound, "") }, codes.NotFound, breaker.Success, ""},
		"none":          {nil, codes.OK, breaker.Success, ""},
	} {
		r := newRig(t, guardedServer())
		r.unary = c.unary
		if err := r.call(as(t, "a")); status.Code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		r.settledAlready(t, c.kind, c.class)
	}
}

func TestServer_CallerThatLeavesIsIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedServer())
	ctx, cancel := context.WithCancel(as(t, "a"))
	r.unary = func(inner context.Context) error {
		cancel()
		<-inner.Done()
		return status.Error(codes.InvalidArgument, "")
	}
	_ = r.call(ctx)
	r.outcome(t, breaker.Ignored, "cancelled")
}

func TestServer_NamesItsCaller(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedServer(func(o *breakergrpc.ServerOptions) {
		o.Agent = func(ctx context.Context, method string) (string, error) {
			if method == pb.TestService_FullDuplexCall_FullMethodName {
				return "", nil
			}
			name, err := breakergrpc.FromMetadata("agent")(ctx, method)
			if name == "secret" {
				return "", errors.New("the database of tokens is down")
			}
			return name, err
		}
	}))
	for name, ctx := range map[string]context.Context{
		"none": t.Context(), "bad": as(t, "/"), "two": metadata.AppendToOutgoingContext(as(t, "a"), "agent", "b"),
	} {
		if s := status.Convert(r.call(ctx)); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), "metadata agent") {
			t.Errorf("%s: %v", name, s)
		}
	}
	s := status.Convert(r.call(as(t, "secret")))
	if s.Code() != codes.InvalidArgument || strings.Contains(s.Message(), "database") || !strings.Contains(r.log.String(), "database") {
		t.Errorf("%v; log %s", s, r.log)
	}
	r.nothingSettled(t)
	r.duplex = func(pb.TestService_FullDuplexCallServer) error { return nil }
	stream, err := r.client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Recv()
	r.nothingSettled(t) // "" is not guarded
}

func TestServer_WithoutItsOptionsOrTheStoreItCallsNoHandler(t *testing.T) {
	t.Parallel()
	down := guardedServer()
	down.store = brokenStore{err: &breaker.StoreError{Verb: "acquire", Agent: "a", Err: errors.New("10.0.0.1 refused")}}
	for name, c := range map[string]struct {
		o    rigOptions
		code codes.Code
	}{
		"no Agent": {rigOptions{server: &breakergrpc.ServerOptions{}}, codes.Internal},
		"store":    {down, codes.Unavailable},
	} {
		r := newRig(t, c.o)
		r.unary = func(context.Context) error { t.Errorf("%s: the handler was called", name); return nil }
		s := status.Convert(r.call(as(t, "a")))
		if s.Code() != c.code || strings.Contains(s.Message(), "10.0.0.1") {
			t.Errorf("%s: %v", name, s)
		}
	}
}

func TestServer_Classify(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedServer(func(o *breakergrpc.ServerOptions) {
		o.Classify = func(_ context.Context, method string, s *status.Status) breaker.Outcome {
			if method == pb.TestService_EmptyCall_FullMethodName && s.Code() == codes.NotFound {
				return breaker.Outcome{Kind: breaker.Failure, Class: "scans"}
			}
			return breakergrpc.InboundOutcome(s.Code())
		}
	}))
	r.unary = func(context.Context) error { return status.Error(codes.NotFound, "") }
	_ = r.call(as(t, "a"))
	r.settledAlready(t, breaker.Failure, "scans")
}

func TestServer_RenewsTheLeaseOfAProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := guardedServer()
		o.policy = breaker.Policy{HalfOpenMaxCalls: 1, ProbeTimeout: 3 * time.Second}
		r := newRig(t, o)
		r.halfOpen(t, "a")
		r.duplex = func(s pb.TestService_FullDuplexCallServer) error {
			<-time.After(5 * time.Minute) // many times the lease
			// A call of the same agent inside it rides on the probe.
			return r.manager.Do(s.Context(), "a", func(context.Context) error { return nil })
		}
		s, err := r.client.FullDuplexCall(as(t, "a"))
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(4 * time.Minute)
		var trailer metadata.MD
		if err := r.call(as(t, "a"), grpc.Trailer(&trailer)); status.Code(err) != codes.ResourceExhausted || trailer.Get("x-circuit-breaker-state")[0] != "HALF_OPEN" {
			t.Errorf("second probe: %v, %v", err, trailer)
		}
		_, _ = s.Recv()
		r.settledAlready(t, breaker.Success, "")
		if got := r.state(t, "a"); got != breaker.Closed {
			t.Errorf("state %s", got)
		}
	})
}

func TestServer_CallInsideAProbeRidesOnIt(t *testing.T) {
	t.Parallel()
	o := guardedServer()
	o.policy = breaker.Policy{HalfOpenMaxCalls: 1}
	r := newRig(t, o)
	r.halfOpen(t, "a")
	r.unary = func(ctx context.Context) error {
		return r.manager.Do(ctx, "a", func(context.Context) error { return nil })
	}
	if err := r.call(as(t, "a")); err != nil {
		t.Fatal(err)
	}
	r.settledAlready(t, breaker.Success, "")
	if got := r.state(t, "a"); got != breaker.Closed {
		t.Errorf("state %s", got)
	}
}

func TestFromCertificate(t *testing.T) {
	t.Parallel()
	tlsPeer := func(verified bool, cn string, dns ...string) context.Context {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: dns}
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		if verified {
			state.VerifiedChains = [][]*x509.Certificate{{cert}}
		}
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
	}
	for name, c := range map[string]struct {
		ctx  context.Context //nolint:containedctx // a row of a table
		want string
	}{
		"common name":  {tlsPeer(true, "reader"), "reader"},
		"DNS name":     {tlsPeer(true, "x", "reader.example", "other"), "reader.example"},
		"not verified": {tlsPeer(false, "reader"), ""},
		"no name":      {tlsPeer(true, ""), ""},
		"bad name":     {tlsPeer(true, "a reader"), ""},
		"no TLS":       {peer.NewContext(t.Context(), &peer.Peer{}), ""},
		"no peer":      {t.Context(), ""},
	} {
		got, err := breakergrpc.FromCertificate()(c.ctx, "/s/m")
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, breaker.ErrBadName) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
