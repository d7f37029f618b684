package breakergrpc

import (
	"context"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// clientStream settles its call when the stream ends, before the caller sees the end.
type clientStream struct {
	grpc.ClientStream

	call          *call
	serverStreams bool         // else the first message is the end
	waiting       atomic.Int32 // Header, RecvMsg and SendMsg that are under way
	unwatch       func() bool  // the caller's context
}

func followStream(s grpc.ClientStream, c *call, serverStreams bool) grpc.ClientStream {
	f := &clientStream{ClientStream: s, call: c, serverStreams: serverStreams}
	f.unwatch = context.AfterFunc(c.ctx, f.contextEnded) // a caller may leave without reading on
	return f
}

// contextEnded settles a stream whose context ends: its caller may never come back for the error.
func (s *clientStream) contextEnded() {
	if s.waiting.Load() == 0 {
		s.abandon()
		return
	}
	s.endWithContext()
}

// endWithContext settles a stream for whose agent the caller waited, if its context has ended.
func (s *clientStream) endWithContext() {
	if err := s.call.ctx.Err(); err != nil {
		s.call.end(status.FromContextError(err).Err())
	}
}

// abandon settles a stream whose context has ended while its caller waited for nothing.
func (s *clientStream) abandon() {
	class := "abandoned"
	if cancelled(s.call.ctx) {
		class = "cancelled"
	}
	s.call.settle(ignored(class))
}

// wait is to be called before the caller waits for the agent, and done after it.
func (s *clientStream) wait() (done func()) {
	if s.call.ctx.Err() != nil {
		s.abandon()
	}
	s.waiting.Add(1)
	return func() { s.waiting.Add(-1) }
}

// settlePanic settles a call below which something panicked, unless returned is set.
func (s *clientStream) settlePanic(returned *bool) {
	if !*returned {
		s.call.settlePanic()
	}
}

// Header implements grpc.ClientStream. Without a header the stream has ended: of what, RecvMsg says, unless the context
// has.
func (s *clientStream) Header() (metadata.MD, error) {
	defer s.wait()()
	returned := false
	defer s.settlePanic(&returned)
	md, err := s.ClientStream.Header()
	returned = true
	switch {
	case err != nil:
		s.end(err)
	case md == nil:
		s.endWithContext()
	}
	return md, err
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(m any) error {
	defer s.wait()()
	returned := false
	defer s.settlePanic(&returned)
	err := s.ClientStream.RecvMsg(m)
	returned = true
	switch {
	case err == io.EOF: //nolint:errorlint // wrapped in another error it is not the end
		s.end(nil)
		return err
	case err != nil:
		s.end(err)
		return err
	}
	s.call.received()
	if !s.serverStreams {
		s.end(nil)
	}
	return nil
}

// SendMsg implements grpc.ClientStream. io.EOF says that the stream has ended, and RecvMsg how; any other error is the
// caller's own.
func (s *clientStream) SendMsg(m any) error {
	defer s.wait()()
	returned := false
	defer s.settlePanic(&returned)
	err := s.ClientStream.SendMsg(m)
	returned = true
	switch {
	case err == nil:
	case s.call.ctx.Err() != nil:
		s.endWithContext()
	case err != io.EOF: //nolint:errorlint // as above
		s.unwatch()
		s.call.settle(ignored("request"))
	}
	return err
}

func (s *clientStream) end(err error) {
	s.unwatch()
	s.call.end(err)
}
