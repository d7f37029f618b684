package breakergrpc

import (
	"context"
	"errors"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Outcome is the default outcome of a call out [B4]: of the error with which a call returned, whose context was ctx.
//
//	OK                  success
//	Canceled            ignored if the caller cancelled ctx, else a failure: the agent or a proxy gave up
//	Unknown             failure: the agent's error has no code, its handler panicked, or a proxy is broken
//	InvalidArgument     ignored: the caller's own fault
//	DeadlineExceeded    failure, class timeout
//	NotFound            ignored: says something about what was asked for
//	AlreadyExists       ignored: the same
//	PermissionDenied    ignored: the caller's own fault
//	ResourceExhausted   failure: the agent asks for fewer calls. gRPC also says so of a message that is larger than the
//	                    caller's own limit
//	FailedPrecondition  ignored: says something about the state of what was asked for
//	Aborted             ignored: calls of several callers conflict, and the agent works
//	OutOfRange          ignored: the caller's own fault
//	Unimplemented       ignored: the caller asks for what the agent does not have
//	Internal            failure: the agent is broken
//	Unavailable         failure: the agent is not there, or not yet
//	DataLoss            failure: the agent is broken
//	Unauthenticated     ignored: the caller's own fault
//
// A code that is not in the table is a failure, as Unknown is. The class is grpc_ and the code, as grpc_unavailable,
// other than for Canceled and DeadlineExceeded. A failure brings the delay of its google.rpc.RetryInfo along [B22]. An
// error that wraps a *breaker.OpenError is ignored, class refused. An error that is no status is judged by
// breaker.Classify.
func Outcome(ctx context.Context, err error) breaker.Outcome {
	if err == nil {
		return breaker.Outcome{Kind: breaker.Success}
	}
	if _, refused := errors.AsType[*breaker.OpenError](err); refused {
		return ignored("refused")
	}
	if cancelled(ctx) {
		return ignored("cancelled")
	}
	s, ok := status.FromError(err)
	if !ok {
		return breaker.Classify(ctx, err)
	}
	row := rowOf(s.Code())
	o := breaker.Outcome{Kind: row.out, Class: row.class}
	switch o.Kind {
	case breaker.Success:
		o.Class = ""
	case breaker.Failure:
		o.RetryAfter = retryDelay(s)
	}
	return o
}

// InboundOutcome is the default outcome of a call in, by the status with which the handler returned. Bad requests are
// the caller's failures: InvalidArgument, OutOfRange, PermissionDenied, Unauthenticated and ResourceExhausted.
// NotFound, AlreadyExists, Aborted and FailedPrecondition are ordinary answers and so successes, like OK. The other
// codes are the fault of the server and are ignored.
func InboundOutcome(code codes.Code) breaker.Outcome {
	row := rowOf(code)
	o := breaker.Outcome{Kind: row.in}
	if o.Kind != breaker.Success {
		o.Class = row.class
	}
	return o
}

// row says what a code is as the status of a call out, and of a call in.
type row struct {
	class   string
	out, in breaker.OutcomeKind
}

func rowOf(c codes.Code) row {
	switch c {
	case codes.OK:
		return row{"grpc_ok", breaker.Success, breaker.Success}
	case codes.Canceled:
		return row{"grpc_canceled", breaker.Failure, breaker.Ignored}
	case codes.InvalidArgument:
		return row{"grpc_invalid_argument", breaker.Ignored, breaker.Failure}
	case codes.DeadlineExceeded:
		return row{"timeout", breaker.Failure, breaker.Ignored}
	case codes.NotFound:
		return row{"grpc_not_found", breaker.Ignored, breaker.Success}
	case codes.AlreadyExists:
		return row{"grpc_already_exists", breaker.Ignored, breaker.Success}
	case codes.PermissionDenied:
		return row{"grpc_permission_denied", breaker.Ignored, breaker.Failure}
	case codes.ResourceExhausted:
		return row{"grpc_resource_exhausted", breaker.Failure, breaker.Failure}
	case codes.FailedPrecondition:
		return row{"grpc_failed_precondition", breaker.Ignored, breaker.Success}
	case codes.Aborted:
		return row{"grpc_aborted", breaker.Ignored, breaker.Success}
	case codes.OutOfRange:
		return row{"grpc_out_of_range", breaker.Ignored, breaker.Failure}
	case codes.Unimplemented:
		return row{"grpc_unimplemented", breaker.Ignored, breaker.Ignored}
	case codes.Internal:
		return row{"grpc_internal", breaker.Failure, breaker.Ignored}
	case codes.Unavailable:
		return row{"grpc_unavailable", breaker.Failure, breaker.Ignored}
	case codes.DataLoss:
		return row{"grpc_data_loss", breaker.Failure, breaker.Ignored}
	case codes.Unauthenticated:
		return row{"grpc_unauthenticated", breaker.Ignored, breaker.Failure}
	}
	return row{"grpc_unknown", breaker.Failure, breaker.Ignored}
}

// retryDelay is the delay of a status' RetryInfo, at most breaker.MaxDuration; 0: none.
func retryDelay(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return min(max(info.GetRetryDelay().AsDuration(), 0), breaker.MaxDuration)
		}
	}
	return 0
}

func ignored(class string) breaker.Outcome {
	return breaker.Outcome{Kind: breaker.Ignored, Class: class}
}

// cancelled says that the caller has given up the call other than by a deadline.
func cancelled(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
