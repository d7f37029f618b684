package demo

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// maxSwitch bounds the body of a PUT, in bytes.
const maxSwitch = 64 << 10

// server serves the agents and the control API.
type server struct {
	agents *agents
	log    *slog.Logger
}

// ServeHTTP implements [http.Handler]. It routes by the path as it was sent, which a mux would clean.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	segment, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	name, err := url.PathUnescape(segment)
	if err != nil {
		name = segment
	}
	switch own := r.URL.EscapedPath(); {
	case own == "/" || own == "":
		problem.New(problem.NotFound, "no such path: an agent is called at /{agent}, all are listed at /modes").Write(w)
	case own == "/livez":
		s.get(w, r, map[string]string{"status": "ok"})
	case own == "/readyz":
		s.get(w, r, map[string]string{"status": "ready"})
	case own == "/modes":
		s.get(w, r, s.list())
	case strings.HasPrefix(own, "/modes/"):
		s.control(w, r, rest)
	default:
		if err := checkName(name); err != nil {
			problem.New(problem.InvalidAgentName, "%v", err).Write(w)
			return
		}
		s.serveAgent(w, r, name, "/"+rest)
	}
}

// get serves a path that takes no other method.
func (s *server) get(w http.ResponseWriter, r *http.Request, v any) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		notAllowed(w, "GET, HEAD")
		return
	}
	writeJSON(w, http.StatusOK, v)
}

func notAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	problem.New(problem.MethodNotAllowed, "want one of %s", allow).Write(w)
}

func (s *server) list() map[string]any {
	out := []map[string]any{}
	for _, v := range s.agents.list() {
		out = append(out, v.json())
	}
	return map[string]any{"agents": out}
}

// json is the agent with its settings, flat, as PUT takes them.
func (v view) json() map[string]any {
	out := map[string]any{
		"agent": v.name, "mode": v.does.mode, "default": !v.switched, "calls": v.calls, "in_flight": v.inFlight,
	}
	for name, n := range v.does.settings {
		out[name] = n
	}
	return out
}

// control is /modes/{agent}.
func (s *server) control(w http.ResponseWriter, r *http.Request, escaped string) {
	name, err := url.PathUnescape(escaped)
	if err == nil {
		err = checkName(name)
	}
	if err != nil {
		problem.New(problem.InvalidAgentName, "%v", err).Write(w)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		writeJSON(w, http.StatusOK, s.agents.look(name).json())
	case http.MethodPut:
		s.put(w, r, name)
	case http.MethodDelete:
		was, now := s.agents.reset(name)
		s.switched(r, was, now)
		writeJSON(w, http.StatusOK, now.json())
	default:
		notAllowed(w, "GET, HEAD, PUT, DELETE")
	}
}

func (s *server) put(w http.ResponseWriter, r *http.Request, name string) {
	b, p := readBehaviour(w, r)
	if p != nil {
		p.Write(w)
		return
	}
	was, now, err := s.agents.put(name, b)
	if err != nil {
		problem.New(problem.TooManyAgents, "%v", err).Write(w)
		return
	}
	s.switched(r, was, now)
	writeJSON(w, http.StatusOK, now.json())
}

func (s *server) switched(r *http.Request, was behaviour, now view) {
	s.log.InfoContext(r.Context(), "demo agent switched", "event", "demo_agent.switched", "agent", now.name,
		"from", was.String(), "to", now.does.String())
}

// readBehaviour reads the body of a PUT: one JSON object of mode and numbers, each name once and spelt exactly.
func readBehaviour(w http.ResponseWriter, r *http.Request) (behaviour, *problem.Problem) {
	sent, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSwitch))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return behaviour{}, problem.New(problem.BodyTooLarge, "the body is larger than %d bytes", maxSwitch)
	case err != nil:
		return behaviour{}, problem.New(problem.InvalidJSON, "the body ended before its end")
	case len(sent) == 0:
		return behaviour{}, problem.New(problem.BodyRequired, `want a JSON body, as {"mode":"healthy"}`)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return behaviour{}, problem.New(problem.UnsupportedMediaType, "want Content-Type: application/json")
	}
	if !jsontext.Value(sent).IsValid() {
		return behaviour{}, problem.New(problem.InvalidJSON, "the body is not one JSON value in UTF-8, each name once")
	}
	var body struct {
		Mode     mode                `json:"mode"`
		Settings map[string]*float64 `json:",embed"`
	}
	err = jsonv2.Unmarshal(sent, &body)
	if bad, wrongType := errors.AsType[*jsonv2.SemanticError](err); wrongType {
		at := text.Short(strings.ReplaceAll(string(bad.JSONPointer), "/", "."))
		return behaviour{}, problem.New(problem.InvalidValue, "body%s: want mode, a text, and settings, numbers", at)
	}
	given := map[string]float64{}
	for name, v := range body.Settings {
		if v == nil {
			return behaviour{}, problem.New(problem.InvalidValue, "body.%s: want a number", text.Short(name))
		}
		given[name] = *v
	}
	b, err := newBehaviour(body.Mode, given)
	if err != nil {
		return behaviour{}, problem.New(problem.InvalidValue, "body.%v", err)
	}
	return b, nil
}
