package breakergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakerd/breakerd/contrib/grpc"
)

// table is what the documentation of Outcome and InboundOutcome says of each code.
var table = []struct {
	code    codes.Code
	out, in breaker.OutcomeKind
	class   string
}{
	{codes.OK, breaker.Success, breaker.Success, ""},
	{codes.Canceled, breaker.Failure, breaker.Ignored, "grpc_canceled"},
	{codes.Unknown, breaker.Failure, breaker.Ignored, "grpc_unknown"},
	{codes.InvalidArgument, breaker.Ignored, breaker.Failure, "grpc_invalid_argument"},
	{codes.DeadlineExceeded, breaker.Failure, breaker.Ignored, "timeout"},
	{codes.NotFound, breaker.Ignored, breaker.Success, "grpc_not_found"},
	{codes.AlreadyExists, breaker.Ignored, breaker.Success, "grpc_already_exists"},
	{codes.PermissionDenied, breaker.Ignored, breaker.Failure, "grpc_permission_denied"},
	{codes.ResourceExhausted, breaker.Failure, breaker.Failure, "grpc_resource_exhausted"},
	{codes.FailedPrecondition, breaker.Ignored, breaker.Success, "grpc_failed_precondition"},
	{codes.Aborted, breaker.Ignored, breaker.Success, "grpc_aborted"},
	{codes.OutOfRange, breaker.Ignored, breaker.Failure, "grpc_out_of_range"},
	{codes.Unimplemented, breaker.Ignored, breaker.Ignored, "grpc_unimplemented"},
	{codes.Internal, breaker.Failure, breaker.Ignored, "grpc_internal"},
	{codes.Unavailable, breaker.Failure, breaker.Ignored, "grpc_unavailable"},
	{codes.DataLoss, breaker.Failure, breaker.Ignored, "grpc_data_loss"},
	{codes.Unauthenticated, breaker.Ignored, breaker.Failure, "grpc_unauthenticated"},
	{codes.Code(17), breaker.Failure, breaker.Ignored, "grpc_unknown"},
}

func TestOutcome_EachCode(t *testing.T) {
	t.Parallel()
	for i, row := range table {
		if row.code != codes.Code(uint32(i)) {
			t.Fatalf("row %d is of %s", i, row.code)
		}
		if o := breakergrpc.Outcome(t.Context(), status.Error(row.code, "")); o.Kind != row.out || o.Class != row.class {
			t.Errorf("%s: %s %q, want %s %q", row.code, o.Kind, o.Class, row.out, row.class)
		}
		class := row.class
		if row.in == breaker.Success {
			class = ""
		}
		if o := breakergrpc.InboundOutcome(row.code); o.Kind != row.in || o.Class != class {
			t.Errorf("in: %s: %s %q, want %s %q", row.code, o.Kind, o.Class, row.in, class)
		}
	}
}

func TestOutcome_ErrorsThatAreNoStatus(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context //nolint:containedctx // a row of a table
		err   error
		kind  breaker.OutcomeKind
		class string
	}{
		"refusal of another breaker": {t.Context(), fmt.Errorf("x: %w", &breaker.OpenError{Agent: "b"}), breaker.Ignored, "refused"},
		"deadline":                   {t.Context(), context.DeadlineExceeded, breaker.Failure, "timeout"},
		"other":                      {t.Context(), errors.New("x"), breaker.Failure, "*errors.errorString"},
		"wrapped status":             {t.Context(), fmt.Errorf("x: %w", status.Error(codes.NotFound, "")), breaker.Ignored, "grpc_not_found"},
		"cancelled by the caller":    {gone, status.Error(codes.Unavailable, ""), breaker.Ignored, "cancelled"},
		"success, then cancelled":    {gone, nil, breaker.Success, ""},
	} {
		if o := breakergrpc.Outcome(c.ctx, c.err); o.Kind != c.kind || o.Class != c.class {
			t.Errorf("%s: %s %q, want %s %q", name, o.Kind, o.Class, c.kind, c.class)
		}
	}
}

func TestOutcome_FailureBringsItsRetryInfo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code  codes.Code
		delay *durationpb.Duration
		want  time.Duration
	}{
		{codes.ResourceExhausted, durationpb.New(90 * time.Second), 90 * time.Second},
		{codes.Unavailable, durationpb.New(time.Second), time.Second},
		{codes.Unavailable, durationpb.New(-time.Second), 0},
		{codes.Unavailable, &durationpb.Duration{Seconds: 1 << 60}, breaker.MaxDuration},
		{codes.Unavailable, nil, 0},
		{codes.NotFound, durationpb.New(time.Second), 0},
	} {
		s, err := status.New(c.code, "").WithDetails(
			&errdetails.ErrorInfo{}, &errdetails.RetryInfo{RetryDelay: c.delay})
		if err != nil {
			t.Fatal(err)
		}
		if o := breakergrpc.Outcome(t.Context(), s.Err()); o.RetryAfter != c.want {
			t.Errorf("%s with %v: %v, want %v", c.code, c.delay, o.RetryAfter, c.want)
		}
	}
}
