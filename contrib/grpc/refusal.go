package breakergrpc

import (
	"context"
	"errors"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// errorDomain is the domain of each google.rpc.ErrorInfo.
const errorDomain = "breakerd"

// statusError is an error of Go that gRPC knows as a status.
type statusError struct {
	error

	status *status.Status
}

// GRPCStatus is what package status asks for.
func (e *statusError) GRPCStatus() *status.Status { return e.status }

func (e *statusError) Unwrap() error { return e.error }

// refusal is a refusal as an error with a status.
func refusal(e *breaker.OpenError, code codes.Code) error {
	info := &errdetails.ErrorInfo{
		Reason: "CIRCUIT_BREAKER_OPEN", Domain: errorDomain,
		Metadata: map[string]string{"agent": e.Agent, "reason": string(e.Reason)},
	}
	if errors.Is(e, breaker.ErrTooManyAgents) {
		info.Reason = "TOO_MANY_AGENTS"
	}
	if e.State != "" {
		info.Metadata["state"] = e.State.Upper()
	}
	return &statusError{e, withDetails(status.New(code, e.Error()), retryInfo(e.Wait), info)}
}

// inboundCode is the code with which a server refuses.
func inboundCode(r breaker.Reason) codes.Code {
	switch r {
	case breaker.ReasonStoreUnavailable, breaker.ReasonEmergencyStop, breaker.ReasonShedding:
		return codes.Unavailable
	}
	return codes.ResourceExhausted
}

// failed is an error that left a call without a permit, and is no refusal. Its status says text, or that ctx has ended.
func failed(ctx context.Context, err error, text string) error {
	var s *status.Status
	switch {
	case ctx.Err() != nil:
		s = status.FromContextError(ctx.Err())
	case errors.Is(err, breaker.ErrBadName):
		s = status.New(codes.InvalidArgument, text)
	case errors.Is(err, breaker.ErrUnset):
		s = status.New(codes.Internal, text)
	default:
		s = withDetails(status.New(codes.Unavailable, text), retryInfo(time.Second))
	}
	return &statusError{err, s}
}

func retryInfo(wait time.Duration) *errdetails.RetryInfo {
	if wait <= 0 {
		wait = time.Second // no caller is told to try again without a pause
	}
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}
}

// withDetails adds details. They can always be marshalled; if not, the status says as much without them.
func withDetails(s *status.Status, details ...protoadapt.MessageV1) *status.Status {
	if with, err := s.WithDetails(details...); err == nil {
		return with
	}
	return s
}
