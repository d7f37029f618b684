package breakerhttp

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker"
)

func isGRPC(kind string) bool {
	return kind == "application/grpc" || strings.HasPrefix(kind, "application/grpc+")
}

// grpcOutcome is the error that the grpc-status in a header or a trailer says, or none. ok: there is a grpc-status.
func grpcOutcome(h http.Header) (o breaker.Outcome, ok bool) {
	values := h["Grpc-Status"]
	if len(values) == 0 {
		return o, false
	}
	code, err := strconv.ParseUint(strings.TrimSpace(values[0]), 10, 31)
	switch {
	case err != nil:
		return noGRPCStatus(), true
	case code == 0:
		return o, true
	case code > 16: // gRPC has none; a class for each would be as many as the agent likes
		return ignored("grpc_unknown"), true
	}
	o = ignored("grpc_" + strconv.FormatUint(code, 10))
	switch code {
	case 4, 8, 13, 14, 15: // deadline exceeded, resource exhausted, internal, unavailable, data loss
		o.Kind = breaker.Failure
	}
	return o, true
}

// grpcFinalOutcome is the outcome of an answer that has ended. Without a status it is a failure, as it is an error to
// every client: a server that is well says how a call has ended, so the server or a proxy has lost it.
func grpcFinalOutcome(resp *http.Response) breaker.Outcome {
	o, ok := grpcOutcome(resp.Trailer)
	if !ok {
		o, ok = grpcOutcome(resp.Header)
	}
	if !ok {
		return noGRPCStatus()
	}
	return o
}

func noGRPCStatus() breaker.Outcome {
	return breaker.Outcome{Kind: breaker.Failure, Class: "grpc_no_status"}
}
