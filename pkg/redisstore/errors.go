package redisstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

var (
	// errBadReply says that a script has run, and that its reply is not one of this version.
	errBadReply = errors.New("a reply that cannot be read")
	// errNotRun says that a call has failed before its script could run: it was not sent, or only its two reads were.
	errNotRun = errors.New("not run")
)

// unreadable is the error of a reply that cannot be read.
func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errBadReply, err)
}

// cannotHaveRun says that a command may be sent again without being carried out twice.
func cannotHaveRun(err error) bool {
	_, notConnected := errors.AsType[*dialError](err)
	return notConnected || answers(err, "NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN",
		"NOREPLICAS", "max number of clients")
}

// answers says that err is an error reply that begins with one of these words, not counting a leading ERR.
func answers(err error, words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return redis.HasErrorPrefix(err, word) })
}

// wasCut says that the connection broke under a command.
func wasCut(err error) bool {
	_, notConnected := errors.AsType[*dialError](err)
	return !notConnected && slices.ContainsFunc([]error{
		io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, net.ErrClosed,
	}, func(cut error) bool { return errors.Is(err, cut) })
}

// refused says that Redis has answered a command with an error about this command, or about its keys. Any other error
// reply is about the connection, or about the state of the whole server.
func refused(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) || cannotHaveRun(err) {
		return errors.Is(err, errBadReply)
	}
	code, text, _ := strings.Cut(reply.Error(), " ")
	switch code {
	case "ERR": // the word after a dash is that of a command in the script, where a server wraps its error
		return !strings.Contains(text, " -OOM ") && !strings.Contains(text, " -MISCONF ")
	case "WRONGTYPE", "NOPERM", "CROSSSLOT":
		return true
	}
	return false
}

// resentError is the error of a call that was sent more than once, and of which an earlier one may have run.
type resentError struct{ error }

func (e resentError) Unwrap() error { return e.error }

// leftError is why a caller has given up a call after it was sent. The dispatcher settles what becomes of it.
type leftError struct{ error }

func (e leftError) Unwrap() error { return e.error }

// idempotent says that a second execution of op changes nothing, so that it may be sent again though it may have run: a
// token or an idempotency key tells it from others.
func idempotent(op *machine.Op) bool {
	switch op.Verb {
	case machine.VerbAcquire, machine.VerbRenew, machine.VerbReplay:
		return true
	case machine.VerbRecord:
		return op.ReportID != ""
	case machine.VerbForce:
		return op.Force.ID != ""
	}
	return false
}

// WrapError makes a [breaker.StoreError] of an error of a Conn's client. It is Unknown unless it says that the command
// has not run. It is for authors of what stands beside a Store.
func WrapError(verb machine.Verb, agent string, err error) error {
	err = advise(err)
	_, settings := errors.AsType[*SettingsError](err)
	_, before := errors.AsType[resentError](err)
	unknown := !cannotHaveRun(err) && !errors.As(err, new(redis.Error)) && !errors.Is(err, errNotRun)
	return &breaker.StoreError{
		Verb: verb, Agent: agent, Err: err,
		Unknown: unknown || before, Cut: wasCut(err), Refused: !settings && refused(err),
	}
}
