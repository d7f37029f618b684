package breakergrpc_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/breakerd/breakerd/contrib/grpc"
)

func (r *rig) outputs(ctx context.Context, t *testing.T) pb.TestService_StreamingOutputCallClient {
	t.Helper()
	s, err := r.client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// messages is a method that sends n messages and ends with err.
func messages(n int, err error) func(pb.TestService_StreamingOutputCallServer) error {
	return func(s pb.TestService_StreamingOutputCallServer) error {
		for range n {
			if err := s.Send(&pb.StreamingOutputCallResponse{}); err != nil {
				return err
			}
		}
		return err
	}
}

// hang sends one message, and then waits for the caller to leave.
func hang(s pb.TestService_StreamingOutputCallServer) error {
	_ = s.Send(&pb.StreamingOutputCallResponse{})
	<-s.Context().Done()
	return s.Context().Err()
}

func TestStream_SettledAtItsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end   error
		kind  breaker.OutcomeKind
		class string
	}{
		"io.EOF":                     {nil, breaker.Success, ""},
		"an error in the middle":     {status.Error(codes.Unavailable, ""), breaker.Failure, "grpc_unavailable"},
		"the caller's own in middle": {status.Error(codes.OutOfRange, ""), breaker.Ignored, "grpc_out_of_range"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
			r.output = messages(3, c.end)
			s := r.outputs(t.Context(), t)
			if _, err := s.Header(); err != nil {
				t.Error(err)
			}
			for range 3 {
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
				r.nothingSettled(t)
			}
			_, err := s.Recv()
			if c.end == nil && !errors.Is(err, io.EOF) || c.end != nil && status.Code(err) != status.Code(c.end) {
				t.Errorf("the stream ended with %v", err)
			}
			r.settledAlready(t, c.kind, c.class)
			_, _ = s.Recv()
			r.nothingSettled(t) // once
		})
	}
}

func TestStream_OfOneAnswerEndsWithIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
	var end error
	r.input = func(s pb.TestService_StreamingInputCallServer) error {
		for {
			if _, err := s.Recv(); err != nil {
				break
			}
		}
		if end != nil {
			return end
		}
		return s.SendAndClose(&pb.StreamingInputCallResponse{})
	}
	for _, c := range []struct {
		end   error
		kind  breaker.OutcomeKind
		class string
	}{{nil, breaker.Success, ""}, {status.Error(codes.Internal, ""), breaker.Failure, "grpc_internal"}} {
		end = c.end
		s, err := r.client.StreamingInputCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&pb.StreamingInputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CloseAndRecv(); status.Code(err) != status.Code(c.end) {
			t.Error(err)
		}
		r.settledAlready(t, c.kind, c.class)
	}
}

func TestStream_WhoLeavesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leave func(*testing.T, *rig, pb.TestService_StreamingOutputCallClient, context.CancelFunc)
		kind  breaker.OutcomeKind
		class string
	}{
		"the caller cancels, and reads no more": {
			func(_ *testing.T, _ *rig, _ pb.TestService_StreamingOutputCallClient, cancel context.CancelFunc) {
				cancel()
			},
			breaker.Ignored, "cancelled",
		},
		"the caller cancels while it reads": {
			func(t *testing.T, _ *rig, s pb.TestService_StreamingOutputCallClient, cancel context.CancelFunc) {
				time.AfterFunc(time.Minute, cancel)
				if _, err := s.Recv(); status.Code(err) != codes.Canceled {
					t.Error(err)
				}
			}, breaker.Ignored, "cancelled",
		},
		"the deadline passes while the caller reads": {
			func(t *testing.T, _ *rig, s pb.TestService_StreamingOutputCallClient, _ context.CancelFunc) {
				if _, err := s.Recv(); status.Code(err) != codes.DeadlineExceeded {
					t.Error(err)
				}
			}, breaker.Failure, "timeout",
		},
		"the deadline passes while the caller does something else": {
			func(_ *testing.T, _ *rig, _ pb.TestService_StreamingOutputCallClient, _ context.CancelFunc) {
				<-time.After(2 * time.Hour)
			}, breaker.Ignored, "abandoned",
		},
		"the caller closes the connection while it reads": {
			func(t *testing.T, r *rig, s pb.TestService_StreamingOutputCallClient, _ context.CancelFunc) {
				time.AfterFunc(time.Minute, func() { _ = r.conn.Close() })
				if _, err := s.Recv(); status.Code(err) != codes.Canceled {
					t.Error(err)
				}
			}, breaker.Ignored, "cancelled",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
				r.output = hang
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				s := r.outputs(ctx, t)
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
				c.leave(t, r, s, cancel)
				synctest.Wait()
				r.settledAlready(t, c.kind, c.class)
			})
		})
	}
}

// Header waits for the agent as Recv does.
func TestStream_DeadlineThatPassesInHeaderIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
		r.output = func(s pb.TestService_StreamingOutputCallServer) error { // an agent that says nothing
			<-s.Context().Done()
			return s.Context().Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s := r.outputs(ctx, t)
		if md, err := s.Header(); len(md) > 0 {
			t.Errorf("header %v, %v", md, err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		r.settledAlready(t, breaker.Failure, "timeout")
	})
}

func TestStream_RenewsTheLeaseOfAProbe(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"read", "cancelled"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOptions{
					policy: breaker.Policy{HalfOpenMaxCalls: 1, ProbeTimeout: 3 * time.Second}, client: &breakergrpc.ClientOptions{},
				})
				r.output = func(s pb.TestService_StreamingOutputCallServer) error {
					_ = s.Send(&pb.StreamingOutputCallResponse{})
					select {
					case <-s.Context().Done():
					case <-time.After(10 * time.Minute):
					}
					return nil
				}
				r.halfOpen(t, agentName)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := r.outputs(ctx, t)
				<-time.After(5 * time.Minute) // many times the lease
				refused(t, r.call(t.Context()), breaker.ReasonProbesBusy)
				want := breaker.Closed
				if end == "cancelled" {
					cancel()
					synctest.Wait()
					r.settledAlready(t, breaker.Ignored, "cancelled")
					want = breaker.HalfOpen
				} else {
					for {
						if _, err := s.Recv(); err != nil {
							break
						}
					}
					r.settledAlready(t, breaker.Success, "")
				}
				if got := r.state(t, agentName); got != want {
					t.Errorf("state %s, want %s", got, want)
				}
				if err := r.call(t.Context()); err != nil { // the place is free, or the breaker closed
					t.Error(err)
				}
			})
		})
	}
}

func TestStream_LeftAloneItKeepsItsPlaceOnlyForTimeoutMax(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{
			policy: breaker.Policy{HalfOpenMaxCalls: 1, ProbeTimeout: 3 * time.Second, TimeoutMax: 10 * time.Minute, Timeout: time.Minute},
			client: &breakergrpc.ClientOptions{},
		})
		r.output = hang
		r.halfOpen(t, agentName)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_ = r.outputs(ctx, t)
		<-time.After(11 * time.Minute)
		if err := r.call(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStream_OfACallerThatSendsWhatCannotBeSentIsIgnored(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{
		client: &breakergrpc.ClientOptions{},
		dial:   []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(10))},
	})
	r.duplex = func(s pb.TestService_FullDuplexCallServer) error { <-s.Context().Done(); return nil }
	s, err := r.client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	large := &pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: make([]byte, 100)}}
	if err := s.Send(large); status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
	r.settledAlready(t, breaker.Ignored, "request")
}

func TestStream_ThatTheAgentEndsWhileTheCallerSends(t *testing.T) {
	t.Parallel()
	r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
	r.duplex = func(pb.TestService_FullDuplexCallServer) error { return status.Error(codes.DataLoss, "") }
	s, err := r.client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = s.Send(&pb.StreamingOutputCallRequest{})
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	r.nothingSettled(t) // RecvMsg says how it ended
	_, _ = s.Recv()
	r.settledAlready(t, breaker.Failure, "grpc_data_loss")
}

func TestStream_IsAsSlowAsItsFirstMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []int
		r := newRig(t, guardedClient(breakergrpc.ClientOptions{Classify: func(ctx context.Context, c breakergrpc.Call) breaker.Outcome {
			got = append(got, c.Messages)
			return breakergrpc.Outcome(ctx, c.Err)
		}}))
		r.output = func(s pb.TestService_StreamingOutputCallServer) error {
			for range 3 {
				<-time.After(time.Minute)
				_ = s.Send(&pb.StreamingOutputCallResponse{})
			}
			return nil
		}
		s := r.outputs(t.Context(), t)
		for {
			if _, err := s.Recv(); err != nil {
				break
			}
		}
		if o := r.settledAlready(t, breaker.Success, ""); o.Duration != time.Minute {
			t.Errorf("duration %v, want a minute", o.Duration)
		}
		if len(got) != 1 || got[0] != 3 {
			t.Errorf("messages %v, want 3, asked once", got)
		}
	})
}

func TestClient_TargetWithoutANameIsCalledWithoutABreaker(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"passthrough:///Agent.Example:50051": "agent.example:50051",
		"dns:///example.com:443":             "example.com",
		"dns://8.8.8.8/example.com.:8443":    "example.com:8443",
		"dns:///[::1]:50051":                 "ip6---1:50051",
		"unix:///run/agent.sock":             "",
		"passthrough:///_x":                  "",
	} {
		r := newRig(t, guardedClient(breakergrpc.ClientOptions{}))
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecureCredentials))
		if err != nil {
			t.Fatal(err)
		}
		unary := breakergrpc.UnaryClientInterceptor(r.manager, breakergrpc.ClientOptions{Logger: r.logger()})
		for range 2 {
			if err := unary(t.Context(), "/s/m", nil, nil, conn, nothing); err != nil {
				t.Error(err)
			}
		}
		_ = conn.Close()
		if want == "" {
			r.nothingSettled(t)
			if n := strings.Count(r.log.String(), "called without a breaker"); n != 1 {
				t.Errorf("%s: logged %d times, want once:\n%s", target, n, r.log)
			}
			continue
		}
		if len(r.seen.settled) != 2 || r.seen.agent() != want {
			t.Errorf("%s: %d calls of %q, want 2 of %q", target, len(r.seen.settled), r.seen.agent(), want)
		}
	}
}
