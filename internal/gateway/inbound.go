package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// InboundOptions is what the inbound guard stands on. URL, Agent and Manager are required.
type InboundOptions struct {
	URL     string // of the API: http or https
	Agent   string // what names the calling agent: header:NAME, path:SEGMENT or jwt:CLAIM
	KeyFile string // for jwt: a public key or certificate in PEM, or the bytes of an HMAC secret
	Manager *breaker.Manager
	Base    http.RoundTripper // nil: NewBase()
	Logger  *slog.Logger      // nil: silent
}

// NewInbound makes the guard in front of one API. The breaker is that of the agent that calls: its own errors (4xx) open it,
// the API's (5xx) do not. A refusal is 429, and never reaches the API.
func NewInbound(o InboundOptions) (http.Handler, error) {
	api, err := url.Parse(o.URL)
	if err != nil || api.Scheme != "http" && api.Scheme != "https" || api.Host == "" || api.User != nil || api.RawQuery != "" {
		return nil, fmt.Errorf("INBOUND_URL=%q is not allowed: want http:// or https://, host, and a path if need be", o.URL)
	}
	agent, verify, err := namer(o.Agent, o.KeyFile)
	if err != nil {
		return nil, err
	}
	if o.Base == nil {
		o.Base = NewBase()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { rewrite(r, api, r.In.URL.EscapedPath()) },
		Transport: o.Base, FlushInterval: flushEvery, BufferPool: &buffers{},
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler)
			}
			o.Logger.WarnContext(r.Context(), "the API gave no answer", "event", "bridge.inbound_unanswered", "error", err)
			unanswered(err).write(w)
		},
	}
	guard := breakerhttp.Middleware{Manager: o.Manager, Agent: agent, Logger: o.Logger}
	return verify(guard.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !validPath(r.URL.EscapedPath()) {
			newProblem(codeInvalidPath, "the path holds a . or .. segment, or what is no text").write(w)
			return
		}
		proxy.ServeHTTP(w, r)
	}))), nil
}

// namer reads INBOUND_AGENT: what names the caller, and what stands before that.
func namer(text, keyFile string) (agent func(*http.Request) (string, error), verify func(http.Handler) http.Handler, err error) {
	verify = func(next http.Handler) http.Handler { return next }
	kind, arg, _ := strings.Cut(text, ":")
	switch {
	case arg == "":
	case kind == "header":
		return breakerhttp.FromHeader(arg), verify, nil
	case kind == "path":
		if n, err := strconv.Atoi(arg); err == nil && n >= 1 && n <= 32 {
			return breakerhttp.FromPath(n), verify, nil
		}
	case kind == "jwt":
		verify, err = verifier(arg, keyFile)
		return fromToken, verify, err
	}
	return nil, nil, fmt.Errorf("INBOUND_AGENT=%q is not allowed: want header:NAME, path:SEGMENT (1 to 32) or jwt:CLAIM", text)
}

type nameKey struct{}

// fromToken is the name that verifier found.
func fromToken(r *http.Request) (string, error) {
	name, _ := r.Context().Value(nameKey{}).(string)
	if !breaker.ValidName(name) {
		return "", fmt.Errorf("the token: %w", breaker.ErrBadName)
	}
	return name, nil
}

// verifier lets requests pass whose bearer token verifies: else any caller could have any agent banned.
func verifier(claim, keyFile string) (func(http.Handler) http.Handler, error) {
	if keyFile == "" {
		return nil, errors.New("INBOUND_AGENT=jwt:… needs INBOUND_JWT_KEY_FILE: a token that nobody verifies names nobody")
	}
	text, err := os.ReadFile(keyFile) //nolint:gosec // the path is the operator's own word
	if err != nil {
		return nil, fmt.Errorf("INBOUND_JWT_KEY_FILE: %w", err)
	}
	key, methods, err := tokenKey(text)
	if err != nil {
		return nil, fmt.Errorf("INBOUND_JWT_KEY_FILE %s: %w", keyFile, err)
	}
	parser := jwt.NewParser(jwt.WithValidMethods(methods))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims := jwt.MapClaims{}
			token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if ok {
				_, err := parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil })
				ok = err == nil
			}
			if !ok {
				w.Header().Set("WWW-Authenticate", "Bearer")
				newProblem(codeInvalidToken, "want Authorization: Bearer and a token that verifies").write(w)
				return
			}
			name, _ := claims[claim].(string)
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nameKey{}, name)))
		})
	}, nil
}

// tokenKey finds out what key a file holds, and the signatures that it verifies.
func tokenKey(text []byte) (key any, methods []string, err error) {
	if k, err := jwt.ParseRSAPublicKeyFromPEM(text); err == nil {
		return k, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	}
	if k, err := jwt.ParseECPublicKeyFromPEM(text); err == nil {
		return k, []string{"ES256", "ES384", "ES512"}, nil
	}
	if k, err := jwt.ParseEdPublicKeyFromPEM(text); err == nil {
		return k, []string{"EdDSA"}, nil
	}
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case strings.Contains(secret, "-----BEGIN"):
		return nil, nil, errors.New("holds PEM, but no public key of RSA, ECDSA or Ed25519")
	case len(secret) < 32:
		return nil, nil, fmt.Errorf("holds a secret of %d bytes: want 32 at least", len(secret))
	}
	return []byte(secret), []string{"HS256", "HS384", "HS512"}, nil
}
