package app

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// logRequests logs each request at level debug, those that a guard refuses included.
func logRequests(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		begin, answer := time.Now(), &statusWriter{ResponseWriter: w}
		defer func() { // a handler that aborts the connection panics
			log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "agent", agentOf(r),
				"status", answer.status, "duration_seconds", time.Since(begin).Seconds())
		}()
		next.ServeHTTP(answer, r)
	})
}

// agentOf is the agent that a request names in its path, "" if it names none.
func agentOf(r *http.Request) string {
	if name := r.PathValue("agent"); name != "" {
		return name
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, gateway.Prefix); ok {
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	return ""
}

// statusWriter keeps the status of an answer; 0: none was sent.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols || status >= http.StatusOK { // the others precede the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observeCalls measures each call of an agent, and logs it at level debug.
func observeCalls(
	log *slog.Logger, m *metrics.Bridge, note func(agent string, took, firstByte time.Duration),
) func(breakerhttp.Timing) {
	return func(t breakerhttp.Timing) {
		m.Upstream(t)
		if t.Outcome.Kind != breaker.Ignored {
			note(t.Agent, t.Total, t.FirstByte)
		}
		log.Debug("agent called", "agent", t.Agent, "status", t.Status, "outcome", string(t.Outcome.Kind),
			"class", t.Outcome.Class, "header_seconds", t.Header.Seconds(), "first_byte_seconds", t.FirstByte.Seconds(),
			"duration_seconds", t.Total.Seconds())
		if t.Late != "" {
			log.Info("agent failed after its probe was settled", "event", "bridge.late", "agent", t.Agent, "class", t.Late)
		}
	}
}
