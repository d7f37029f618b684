package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// common is what the handlers of both programs stand on; Options and BridgeOptions say what each field is.
type common struct {
	health       func(context.Context) Health
	ready        func(context.Context) error
	loopbackOnly bool
	metrics      http.Handler
	version      string
	replicaID    string
	logger       *slog.Logger
	now          func() time.Time
	readIn       time.Duration // how long a request may take to arrive; 0: as long as the server lets it
	writeIn      time.Duration // and its answer to be sent, counted from the request's beginning
}

// server is a handler under construction: the guards, the routes and the document that describes them. breakerd's api and the
// bridge embed it.
type server struct {
	common
	started time.Time
	mux     *http.ServeMux
	doc     document
	cross   *http.CrossOriginProtection
	named   []named
	gateway http.Handler // nil: none
	gate    http.Handler // nil: none
}

// named are paths whose next segment is the name of something.
type named struct {
	prefix []string
	valid  func(string) bool
	refuse func() *problem.Problem // an invalid one
}

func newServer(c common, doc document, paths ...named) *server {
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	return &server{
		common: c, started: c.now(), mux: http.NewServeMux(), doc: doc, cross: http.NewCrossOriginProtection(), named: paths,
	}
}

// agentsUnder are the paths whose next segment is an agent's name.
func agentsUnder(prefix ...string) named {
	return named{prefix: prefix, valid: breaker.ValidName, refuse: func() *problem.Problem {
		return problem.New(problem.InvalidAgentName, "%v", breaker.ErrBadName)
	}}
}

// finish adds what every server has, at the end: the document is complete then.
func (s *server) finish() error {
	s.healthRoutes()
	s.mux.HandleFunc("/", s.noRoute)
	s.pageRoute()
	return s.documentRoute()
}
