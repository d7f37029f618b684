package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/pkg/client"
)

// Exit codes of breakerctl.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitAuth        = 4
	exitFinding     = 5 // doctor, or a check of the cluster, found something
	exitConflict    = 6
	exitUnreachable = 7 // no server answered, or its Redis did not
	exitWaited      = 8 // wait timed out
	exitDiffers     = 9 // config diff --exit-code
	exitInterrupted = 130
)

// worse is the exit code of two results: that which comes first here.
func worse(a, b int) int {
	for _, code := range []int{
		exitInterrupted, exitUnreachable, exitAuth, exitFailed, exitUsage, exitConflict, exitNotFound, exitWaited,
		exitFinding, exitDiffers,
	} {
		if a == code || b == code {
			return code
		}
	}
	return exitOK
}

// failure is an error with all that a person, or a script, needs to go on.
type failure struct {
	Exit      int    `json:"-"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	Next      string `json:"next,omitempty"` // what to type, or to do, now
	RequestID string `json:"request_id,omitempty"`
}

func (f *failure) Error() string { return f.Message }

func usagef(next, format string, args ...any) error {
	return &failure{Exit: exitUsage, Code: "usage", Message: fmt.Sprintf(format, args...), Next: next}
}

// verdict is the exit code of a command that has already printed all that it has to say.
type verdict int

func (v verdict) Error() string { return fmt.Sprintf("exit code %d", int(v)) }

// conclude gives nil for exitOK.
func conclude(code int) error {
	if code == exitOK {
		return nil
	}
	return verdict(code)
}

// failureOf explains any error.
func failureOf(err error) *failure {
	if known, ok := errors.AsType[*failure](err); ok {
		return known
	}
	f := &failure{Exit: exitFailed, Code: "failed", Message: err.Error()}
	var answer *client.Error
	switch {
	case errors.Is(err, context.Canceled):
		f.Exit, f.Code, f.Message = exitInterrupted, "interrupted", "interrupted"
	case errors.As(err, &answer):
		f.ofAnswer(answer)
	case errors.Is(err, client.ErrUnknown):
		f.Code = "unknown"
		f.Next = "see what became of it: breakerctl describe AGENT, or breakerctl events"
	case errors.Is(err, client.ErrUnreachable):
		f.Exit, f.Code = exitUnreachable, "unreachable"
		f.Next = "check --server, BREAKERCTL_SERVER or the context: breakerctl context test"
	}
	return f
}

// ofAnswer takes what a server answered.
func (f *failure) ofAnswer(answer *client.Error) {
	f.Code, f.Message, f.RequestID = string(answer.Code), answer.Detail, answer.RequestID
	if f.Code == "" {
		f.Code = fmt.Sprintf("http_%d", answer.Status)
	}
	if f.Message == "" {
		f.Message = answer.Error()
	}
	for _, field := range answer.Fields {
		f.Message += "\n  " + strings.TrimLeft(field.Location+" ", " ") + field.Message
	}
	switch answer.Status {
	case 400, 413, 415, 422:
		f.Exit = exitUsage
	case 401, 403:
		f.Exit = exitAuth
	case 404:
		f.Exit = exitNotFound
	case 409, 412, 428:
		f.Exit = exitConflict
	case 502, 503, 504:
		f.Exit = exitUnreachable
	}
	f.Next = strings.ReplaceAll(nextSteps()[answer.Code], "AGENT", answer.Agent)
}

// nextSteps says what to do after an answer.
func nextSteps() map[client.Code]string {
	return map[client.Code]string{
		client.CodeUnauthenticated:    "set BREAKERCTL_TOKEN or BREAKERCTL_TOKEN_FILE, or token_file in the context",
		client.CodeForbidden:          "use a token with a role that may do this: breakerctl context test",
		client.CodeForbiddenAgent:     "use a token that may act on this agent: breakerctl context test",
		client.CodeHoldProtected:      "see who protects it: breakerctl describe AGENT; then add --force",
		client.CodeHoldExists:         "see whose hold it is: breakerctl describe AGENT; then add --force",
		client.CodeMoreThanExpected:   "there are more agents than you confirmed: look again with --dry-run",
		client.CodeStoreUnavailable:   "Redis is away for this replica: breakerctl doctor",
		client.CodePreconditionFailed: "somebody else changed it meanwhile: run the command again",
		client.CodeRateLimited:        "wait a moment, and run the command again",
	}
}

// say writes an error where people read, as JSON where the command was asked for JSON.
func (f *failure) say(w io.Writer, format string) {
	if format == formatJSON || format == formatJSONL {
		body, err := json.Marshal(map[string]*failure{"error": f})
		if err == nil {
			_, _ = fmt.Fprintln(w, string(body))
			return
		}
	}
	_, _ = fmt.Fprintln(w, "error: "+f.Message)
	if f.Next != "" {
		_, _ = fmt.Fprintln(w, "next: "+f.Next)
	}
	if f.RequestID != "" {
		_, _ = fmt.Fprintln(w, "request id: "+f.RequestID)
	}
}

// exitNames is the part of the help that lists exit codes.
func exitNames() string {
	names := map[int]string{
		exitOK: "ok", exitFailed: "error", exitUsage: "usage", exitNotFound: "not found", exitAuth: "not allowed",
		exitFinding: "doctor or a check of the cluster found something", exitConflict: "conflict",
		exitUnreachable: "no server answered, or its Redis did not", exitWaited: "wait timed out",
		exitDiffers: "differs", exitInterrupted: "interrupted",
	}
	codes := make([]int, 0, len(names))
	for code := range names {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	var b strings.Builder
	for _, code := range codes {
		fmt.Fprintf(&b, "  %-4d %s\n", code, names[code])
	}
	return b.String()
}
