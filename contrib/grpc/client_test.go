package breakergrpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakerd/breakerd/contrib/grpc"
)

func guardedClient(o breakergrpc.ClientOptions) rigOptions { return rigOptions{client: &o} }

func TestClient_OpensAfterFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
	calls := 0
	r.unary = func(context.Context) error { calls++; return status.Error(codes.Unavailable, "down") }
	for range 5 {
		if err := r.call(t.Context()); status.Code(err) != codes.Unavailable || errors.Is(err, breaker.ErrOpen) {
			t.Fatalf("the agent's own error became %v", err)
		}
		r.settledAlready(t, breaker.Failure, "grpc_unavailable")
	}
	err := r.call(t.Context())
	open := refused(t, err, breaker.ReasonOpen)
	if calls != 5 || open.Agent != agentName {
		t.Errorf("%d calls of agent %q, want 5 of %q", calls, open.Agent, agentName)
	}
	s := status.Convert(err)
	if s.Code() != codes.Unavailable || s.Message() != open.Error() {
		t.Errorf("status %v", s)
	}
	var delay time.Duration
	var info *errdetails.ErrorInfo
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			delay = d.GetRetryDelay().AsDuration()
		case *errdetails.ErrorInfo:
			info = d
		}
	}
	if delay != open.RetryAfter() || delay <= 0 {
		t.Errorf("RetryInfo %v, want %v", delay, open.RetryAfter())
	}
	if info.GetReason() != "CIRCUIT_BREAKER_OPEN" || info.GetDomain() != "breakerd" ||
		info.GetMetadata()["agent"] != agentName || info.GetMetadata()["reason"] != "open" || info.GetMetadata()["state"] != "OPEN" {
		t.Errorf("ErrorInfo %v", info)
	}
	_, err = r.client.FullDuplexCall(t.Context()) // one breaker for both kinds of calls
	refused(t, err, breaker.ReasonOpen)
	r.nothingSettled(t)
}

func TestClient_OrdinaryErrorsDoNotOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
	r.unary = func(context.Context) error { return status.Error(codes.NotFound, "") }
	for range 20 {
		if err := r.call(t.Context()); status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		r.settledAlready(t, breaker.Ignored, "grpc_not_found")
	}
}

func TestClient_ProbeCloses(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{policy: breaker.Policy{HalfOpenMaxCalls: 1}, client: &breakergrpc.ClientOptions{}})
	r.halfOpen(t, agentName)
	r.unary = func(ctx context.Context) error {
		if _, err := r.client.FullDuplexCall(ctx); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("a second probe was admitted: %v", err)
		}
		return nil
	}
	if err := r.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.settledAlready(t, breaker.Success, "")
	if s := r.state(t, agentName); s != breaker.Closed {
		t.Errorf("state %s after the probe", s)
	}
}

func TestClient_CallInsideAProbeRidesOnIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{policy: breaker.Policy{HalfOpenMaxCalls: 1}, client: &breakergrpc.ClientOptions{}})
	r.halfOpen(t, agentName)
	err := r.manager.Do(t.Context(), agentName, func(ctx context.Context) error { return r.call(ctx) })
	if err != nil {
		t.Fatal(err)
	}
	if s := r.state(t, agentName); s != breaker.Closed {
		t.Errorf("state %s after the probe", s)
	}
}

func TestClient_RetryInfoLengthensTheWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{policy: breaker.Policy{FailureThreshold: 1}, client: &breakergrpc.ClientOptions{}})
	r.unary = func(context.Context) error {
		s, _ := status.New(codes.ResourceExhausted, "").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(5 * time.Minute)})
		return s.Err()
	}
	_ = r.call(t.Context())
	if open := refused(t, r.call(t.Context()), breaker.ReasonOpen); open.RetryAfter() < 4*time.Minute {
		t.Errorf("retry after %v, want five minutes", open.RetryAfter())
	}
}

func TestClient_WhoEndsACall(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	t.Run("the caller cancels", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
		ctx, cancel := context.WithCancel(t.Context())
		r.unary = func(inner context.Context) error { cancel(); return hang(inner) }
		if err := r.call(ctx); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		r.settledAlready(t, breaker.Ignored, "cancelled")
	})
	t.Run("the caller's deadline passes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r.unary = hang
			if err := r.call(ctx); status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
			if o := r.settledAlready(t, breaker.Failure, "timeout"); o.Duration != time.Minute {
				t.Errorf("duration %v, want a minute", o.Duration)
			}
		})
	})
	t.Run("the caller closes the connection", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
		r.unary = func(ctx context.Context) error { _ = r.conn.Close(); return hang(ctx) }
		if err := r.call(t.Context()); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		r.settledAlready(t, breaker.Ignored, "cancelled")
	})
	t.Run("the agent says cancelled", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
		r.unary = func(context.Context) error { return status.Error(codes.Canceled, "mine") }
		_ = r.call(t.Context())
		r.settledAlready(t, breaker.Failure, "grpc_canceled")
	})
}

func TestClient_WithoutACallTheErrorIsAStatus(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	down := &breaker.StoreError{Verb: "acquire", Agent: agentName, Err: context.DeadlineExceeded}
	for name, c := range map[string]struct {
		ctx  context.Context //nolint:containedctx // a row of a table
		o    rigOptions
		code codes.Code
		is   error
	}{
		"context":  {gone, guardedClient(breakergrpc.ClientOptions{}), codes.Canceled, context.Canceled},
		"bad name": {t.Context(), guardedClient(breakergrpc.ClientOptions{Agent: func(context.Context, string, string) string { return "/" }}), codes.InvalidArgument, breaker.ErrBadName},
		"store":    {t.Context(), rigOptions{client: &breakergrpc.ClientOptions{}, store: brokenStore{err: down}}, codes.Unavailable, breaker.ErrStoreUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.o)
			r.unary = func(context.Context) error { t.Error("the call was made"); return nil }
			if err := r.call(c.ctx); status.Code(err) != c.code || !errors.Is(err, c.is) {
				t.Errorf("%v: code %s, want %s", err, status.Code(err), c.code)
			}
			if _, err := r.client.FullDuplexCall(c.ctx); status.Code(err) != c.code {
				t.Errorf("stream: %v", err)
			}
		})
	}
}

func TestClient_ContextThatEndsWhileTheStoreIsAskedSendsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(t, rigOptions{
		client: &breakergrpc.ClientOptions{}, store: cancelling{breaker.NewMemory(nil, 0), cancel},
		policy: breaker.Policy{HalfOpenMaxCalls: 1},
	})
	r.halfOpen(t, agentName)
	r.unary = func(context.Context) error { t.Error("the call was made"); return nil }
	if err := r.call(ctx); status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.settledAlready(t, breaker.Ignored, "cancelled") // the probe's place is free
}

// cancelling ends a caller's context while it gives the permit.
type cancelling struct {
	breaker.Store

	cancel context.CancelFunc
}

func (s cancelling) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if op.Verb == machine.VerbAcquire {
		defer s.cancel()
	}
	return s.Store.Apply(ctx, agent, p, op)
}

func TestClient_WithoutACallerNothingIsCalled(t *testing.T) {
	t.Parallel()
	err := breakergrpc.UnaryClientInterceptor(nil, breakergrpc.ClientOptions{
		Agent: func(context.Context, string, string) string { return "a" },
	})(t.Context(), "/s/m", nil, nil, nil, nil)
	if status.Code(err) != codes.Internal || !errors.Is(err, breaker.ErrUnset) {
		t.Error(err)
	}
}

func TestClient_AgentMayBeNamedByMethodAndMetadata(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedClient(breakergrpc.ClientOptions{
		Agent: func(ctx context.Context, target, method string) string {
			if target != "passthrough:///Agent.Example:50051" {
				t.Errorf("target %q", target)
			}
			md, _ := metadata.FromOutgoingContext(ctx)
			if tenant := md.Get("tenant"); len(tenant) == 1 {
				return tenant[0] + ":" + method[strings.LastIndex(method, "/")+1:]
			}
			return ""
		},
	}))
	if err := r.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.nothingSettled(t) // made without a breaker
	r.halfOpen(t, "red:EmptyCall")
	if err := r.call(metadata.AppendToOutgoingContext(t.Context(), "tenant", "red")); err != nil {
		t.Fatal(err)
	}
	r.settledAlready(t, breaker.Success, "")
	if v, _, err := r.manager.Inspect(t.Context(), "red:EmptyCall"); err != nil || v.State != breaker.HalfOpen || v.Round.OK != 1 {
		t.Errorf("%+v %v, want one successful probe", v, err)
	}
}

func TestClient_Classify(t *testing.T) {
	t.Parallel()
	var got breakergrpc.Call
	answer := func() breaker.Outcome { return breaker.Outcome{Kind: breaker.Failure, Class: "mine"} }
	r := newRig(t, guardedClient(breakergrpc.ClientOptions{
		Classify: func(_ context.Context, c breakergrpc.Call) breaker.Outcome { got = c; return answer() },
	}))
	want := status.Error(codes.NotFound, "gone")
	r.unary = func(context.Context) error { return want }
	_ = r.call(t.Context())
	r.settledAlready(t, breaker.Failure, "mine")
	if got.Agent != agentName || got.Method != pb.TestService_EmptyCall_FullMethodName || !errors.Is(got.Err, want) {
		t.Errorf("Classify was asked about %+v", got)
	}
	answer = func() breaker.Outcome { panic("classify") }
	_ = r.call(t.Context())
	r.settledAlready(t, breaker.Ignored, "grpc_not_found")
	answer = func() breaker.Outcome { return breaker.Outcome{Kind: "bad"} }
	_ = r.call(t.Context())
	r.settledAlready(t, breaker.Ignored, "grpc_not_found")
	for _, line := range []string{"panic recovered", "outcome of Classify not taken"} {
		if !strings.Contains(r.log.String(), line) {
			t.Errorf("the log lacks %q:\n%s", line, r.log)
		}
	}
}

func TestClient_PanicBelowIsAFailureAndGoesOn(t *testing.T) {
	t.Parallel()
	o := guardedClient(breakergrpc.ClientOptions{})
	r := newRig(t, o)
	unary := breakergrpc.UnaryClientInterceptor(r.manager, *o.client)
	v := recoveredFrom(func() {
		_ = unary(t.Context(), "/s/m", nil, nil, r.conn,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { panic("below") })
	})
	if v != "below" {
		t.Errorf("recovered %v", v)
	}
	r.settledAlready(t, breaker.Failure, "panic")
	stream := breakergrpc.StreamClientInterceptor(r.manager, *o.client)
	v = recoveredFrom(func() {
		_, _ = stream(t.Context(), &grpc.StreamDesc{}, r.conn, "/s/m",
			func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				panic("below")
			})
	})
	if v != "below" {
		t.Errorf("recovered %v", v)
	}
	r.settledAlready(t, breaker.Failure, "panic")
}

// panickingStream panics wherever it is used, as a codec may.
type panickingStream struct{ grpc.ClientStream }

func (panickingStream) Header() (metadata.MD, error) { panic("below") }
func (panickingStream) SendMsg(any) error            { panic("below") }
func (panickingStream) RecvMsg(any) error            { panic("below") }

func TestStream_PanicBelowIsAFailureAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(grpc.ClientStream){
		"Header":  func(s grpc.ClientStream) { _, _ = s.Header() },
		"SendMsg": func(s grpc.ClientStream) { _ = s.SendMsg(nil) },
		"RecvMsg": func(s grpc.ClientStream) { _ = s.RecvMsg(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := guardedClient(breakergrpc.ClientOptions{})
			r := newRig(t, o)
			s, err := breakergrpc.StreamClientInterceptor(r.manager, *o.client)(
				t.Context(), &grpc.StreamDesc{}, r.conn, "/s/m",
				func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
					return panickingStream{}, nil
				})
			if err != nil {
				t.Fatal(err)
			}
			if v := recoveredFrom(func() { use(s) }); v != "below" {
				t.Errorf("recovered %v", v)
			}
			r.settledAlready(t, breaker.Failure, "panic")
		})
	}
}

func recoveredFrom(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestClient_CachedModeCountsEachCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{policy: breaker.Policy{Consistency: breaker.Cached}, client: &breakergrpc.ClientOptions{}})
	r.unary = func(context.Context) error { return status.Error(codes.Internal, "") }
	for range 5 {
		if err := r.call(t.Context()); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		r.settledAlready(t, breaker.Failure, "grpc_internal")
	}
	refused(t, r.call(t.Context()), breaker.ReasonOpen)
}

// brokenStore is a store that is down.
type brokenStore struct {
	breaker.Store

	err error
}

func (s brokenStore) Apply(context.Context, string, breaker.Policy, machine.Op) (machine.Result, error) {
	return machine.Result{}, s.err
}
