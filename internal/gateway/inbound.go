package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
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

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// InboundOptions configures the inbound guard. URL, Agent and Manager are required.
type InboundOptions struct {
	URL        string // of the API: http or https
	Agent      string // what names the calling agent: header:NAME, path:SEGMENT or jwt:CLAIM
	KeyFile    string // for jwt: a public key or certificate in PEM
	SecretFile string // for jwt, instead: an HMAC secret
	Manager    *breaker.Manager
	Base       http.RoundTripper // nil: NewBase(registry.DefaultTimeout)
	Logger     *slog.Logger      // nil: silent
	ID         string            // of the replica, by which it knows its own calls in a loop; "": any
}

// NewInbound makes the guard in front of one API. The breaker is the calling agent's: its errors (4xx) open it, the
// API's (5xx) do not. A refused call is answered 429 and does not reach the API.
func NewInbound(o InboundOptions) (http.Handler, error) {
	api, err := url.Parse(o.URL)
	if err != nil || api.Scheme != "http" && api.Scheme != "https" || api.Host == "" || api.User != nil ||
		api.RawQuery != "" {
		return nil, fmt.Errorf("INBOUND_URL=%q is not allowed: "+
			"want http:// or https://, host, and a path if need be", o.URL)
	}
	agent, verify, err := o.namer()
	if err != nil {
		return nil, err
	}
	if o.Base == nil {
		o.Base = NewBase(registry.DefaultTimeout)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	proxy := newProxy(o.Logger)
	proxy.Transport = unlooped{o.Base}
	via := newVia(cmp.Or(o.ID, rand.Text()) + "/inbound") // an agent of this replica's gateway may be behind this guard
	proxy.Rewrite = func(r *httputil.ProxyRequest) { rewrite(r, api, r.In.URL.EscapedPath(), "", via) }
	proxy.ModifyResponse = func(resp *http.Response) error {
		c := callerOf(resp.Request)
		return c.pass(resp, place{url: api, front: c.host})
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		fail(w, r, o.Logger, target{name: "the API"}, err)
	}
	guard := breakerhttp.Middleware{Manager: o.Manager, Agent: agent, Logger: o.Logger}
	guarded := verify(guard.Wrap(&proxy))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, r, end := newCaller(w, r)
		defer end()
		path := r.URL.EscapedPath()
		p := checkTarget(r.Method, path)
		if p == nil && !strings.HasPrefix(path, "/") { // OPTIONS *
			p = problem.New(problem.InvalidPath, "want a path")
		}
		if p == nil && via.looped(r.Header) {
			p = looping()
			if via.due() {
				o.Logger.WarnContext(r.Context(), "a call came back to the inbound guard", "event", "bridge.loop_detected")
			}
		}
		if p != nil {
			answer(c, p, statusOf(p.Code))
			return
		}
		c.refused = statusDenied
		guarded.ServeHTTP(c, r)
	}), nil
}

// namer parses INBOUND_AGENT: what names the calling agent, and what verifies a request before that.
func (o InboundOptions) namer() (
	agent func(*http.Request) (string, error), verify func(http.Handler) http.Handler, err error,
) {
	verify = func(next http.Handler) http.Handler { return next }
	kind, arg, _ := strings.Cut(o.Agent, ":")
	switch {
	case arg == "":
	case kind == "header":
		return breakerhttp.FromHeader(arg), verify, nil
	case kind == "path":
		if n, err := strconv.Atoi(arg); err == nil && n >= 1 && n <= 32 {
			return breakerhttp.FromPath(n), verify, nil
		}
	case kind == "jwt":
		verify, err = o.verifier(arg)
		return fromToken, verify, err
	}
	return nil, nil, fmt.Errorf("INBOUND_AGENT=%q is not allowed: "+
		"want header:NAME, path:SEGMENT (1 to 32) or jwt:CLAIM", o.Agent)
}

type nameKey struct{}

// fromToken returns the name that verifier found.
func fromToken(r *http.Request) (string, error) {
	name, _ := r.Context().Value(nameKey{}).(string)
	if !breaker.ValidName(name) {
		return "", fmt.Errorf("the token: %w", breaker.ErrBadName)
	}
	return name, nil
}

// verifier passes on requests with one bearer token that verifies and has not expired. Without it, any caller could
// open any agent's breaker.
func (o InboundOptions) verifier(claim string) (func(http.Handler) http.Handler, error) {
	key, methods, err := o.tokenKey()
	if err != nil {
		return nil, err
	}
	parser := jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithExpirationRequired())
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims := jwt.MapClaims{}
			_, err := parser.ParseWithClaims(bearer(r), claims, func(*jwt.Token) (any, error) { return key, nil })
			if err != nil {
				w.Header().Set("WWW-Authenticate", "Bearer")
				problem.New(problem.InvalidToken,
					"want one Authorization: Bearer and a token that verifies and expires").Write(w)
				return
			}
			name, _ := claims[claim].(string)
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nameKey{}, name)))
		})
	}, nil
}

// bearer returns a request's token, "" unless it is the only credential.
func bearer(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// minSecret is the least length of a secret, in bytes, that HS256 requires (RFC 7518).
const minSecret = 32

// tokenKey returns the key for tokens, and the methods that it may verify. A public key is never used as a secret.
func (o InboundOptions) tokenKey() (key any, methods []string, err error) {
	switch {
	case (o.KeyFile == "") == (o.SecretFile == ""):
		return nil, nil, errors.New("INBOUND_AGENT=jwt:… needs INBOUND_JWT_KEY_FILE or INBOUND_JWT_SECRET_FILE, " +
			"one of them: a token that nobody verifies names nobody")
	case o.SecretFile != "":
		text, err := os.ReadFile(o.SecretFile)
		if err != nil {
			return nil, nil, fmt.Errorf("INBOUND_JWT_SECRET_FILE: %w", err)
		}
		if text = bytes.TrimRight(text, "\r\n"); len(text) < minSecret {
			return nil, nil, fmt.Errorf("INBOUND_JWT_SECRET_FILE %s: holds %d bytes: want %d at least",
				o.SecretFile, len(text), minSecret)
		}
		return text, []string{"HS256", "HS384", "HS512"}, nil
	}
	text, err := os.ReadFile(o.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("INBOUND_JWT_KEY_FILE: %w", err)
	}
	if k, err := jwt.ParseRSAPublicKeyFromPEM(text); err == nil {
		return k, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	}
	if k, err := jwt.ParseECPublicKeyFromPEM(text); err == nil {
		return k, []string{"ES256", "ES384", "ES512"}, nil
	}
	if k, err := jwt.ParseEdPublicKeyFromPEM(text); err == nil {
		return k, []string{"EdDSA"}, nil
	}
	return nil, nil, fmt.Errorf("INBOUND_JWT_KEY_FILE %s: "+
		"holds no public key or certificate of RSA, ECDSA or Ed25519 in PEM", o.KeyFile)
}
