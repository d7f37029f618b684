// Package access knows who makes a request, and says what he may do. A caller is known by a token, by a session that a
// token opened, or by a client certificate; AUTH_FILE lists all of them with their roles. Each operation needs a role.
package access

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/filewatch"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Role is what a caller may do, and what an operation needs.
type Role string

// The roles of callers. Operate includes Read and Report, which do not include each other; Admin includes all.
const (
	Read    Role = "read"
	Report  Role = "report"
	Operate Role = "operate"
	Admin   Role = "admin"
)

// What an operation may need instead.
const (
	Open  Role = "open"  // nothing: it is not asked who calls
	Known Role = "known" // any role
)

func (r Role) includes(need Role) bool {
	switch {
	case r == Admin, need == Known, r == need:
		return true
	case r == Operate:
		return need == Read || need == Report
	}
	return false
}

// Caller is who makes a request. nil is a caller who is not known, of an operation that is Open. It never changes.
type Caller struct {
	Name   string // "": everybody, where nobody is asked who he is
	Role   Role
	Agents []string  // patterns of [path.Match]; nil: every agent
	By     string    // token, session or certificate; "": everybody
	Until  time.Time // zero: without end

	line *line // of the file by which the caller is known
}

// What a caller is known by.
const (
	knownByToken       = "token"
	knownBySession     = "session"
	knownByCertificate = "certificate"
)

// everybody may do everything.
var everybody = &Caller{Role: Admin} //nolint:gochecknoglobals // it never changes

// Has reports whether the caller's role includes another.
func (c *Caller) Has(need Role) bool { return need == Open || c != nil && c.Role.includes(need) }

// CheckAgent returns nil if the caller may name an agent, else the problem. A verb that names an agent needs it; lists
// show every agent.
func (c *Caller) CheckAgent(agent string) error {
	if c == nil {
		return unauthenticated("", "want a token")
	}
	if c.Agents == nil {
		return nil
	}
	for _, pattern := range c.Agents {
		if ok, err := path.Match(pattern, agent); ok && err == nil {
			return nil
		}
	}
	p := problem.New(problem.ForbiddenAgent, "%s may name the agents %s only", c.Name, strings.Join(c.Agents, ", "))
	p.Agent = agent
	return p
}

// Options configures a Guard. File, Certificates or both are required.
type Options struct {
	File         string       // AUTH_FILE; "": each client certificate that verifies has the role admin
	Certificates bool         // client certificates are asked for
	Logger       *slog.Logger // nil: silent
}

// Guard knows callers. A nil Guard asks nobody: everybody may do everything. It is safe for concurrent use.
type Guard struct {
	o       Options
	file    atomic.Pointer[file]
	watched filewatch.File
	wrong   *slowdown
}

// New reads the file. It fails if the file is bad: there is no last good one yet.
func New(o Options) (*Guard, error) {
	if o.File == "" && !o.Certificates {
		return nil, errors.New("access: want Options.File or Certificates")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Guard{o: o, wrong: newSlowdown()}
	g.file.Store(&file{})
	if o.File != "" {
		// Of a file that is being written, the beginning may be a valid file that allows more than the whole.
		g.watched = filewatch.File{Path: o.File, Most: maxFile, Settle: true, Take: g.take}
		if _, err := g.watched.Look(); err != nil {
			return nil, fmt.Errorf("AUTH_FILE: %w", err)
		}
	}
	return g, nil
}

// Ways are the ways by which a caller may make himself known.
type Ways uint8

const (
	byOurHeader Ways = 1 << iota
	byBearer
	bySession
	byCertificate

	// API is for our own operations.
	API = byOurHeader | byBearer | bySession | byCertificate
	// Gate is for an operation that changes something whatever its method is, and whose callers' headers a proxy hands
	// on: a cookie does not count.
	Gate = byOurHeader | byBearer | byCertificate
	// Gateway is for calls of agents, to whom Authorization and cookies belong.
	Gateway = byOurHeader | byCertificate
)

// TokenHeader is the header of a token where Authorization belongs to somebody else.
const TokenHeader = "X-Breaker-Token"

// Admit returns who makes a request, if that may carry out an operation that needs a role, else the problem. Of several
// ways in which a caller makes himself known the first that is right counts: header, session, certificate.
func (g *Guard) Admit(r *http.Request, need Role, ways Ways) (*Caller, *problem.Problem) {
	if g == nil {
		return everybody, nil
	}
	if need == Open {
		return nil, nil // a caller who is not known
	}
	c, p := g.identify(r, ways, time.Now())
	switch {
	case p != nil:
		return nil, p
	case !c.Has(need):
		return nil, problem.New(problem.Forbidden, "%s has the role %s; this needs %s", c.Name, c.Role, need)
	case c.By == knownBySession && crossOrigin(r):
		return nil, problem.New(problem.CrossOrigin, "a page of another site may not change anything here")
	}
	return c, nil
}

func crossOrigin(r *http.Request) bool { return http.NewCrossOriginProtection().Check(r) != nil }

// maxToken bounds the length of a token: a longer one is not hashed.
const maxToken = 512 // bytes

// identify returns who makes a request.
func (g *Guard) identify(r *http.Request, ways Ways, now time.Time) (*Caller, *problem.Problem) {
	file := g.file.Load()
	token := tokenOf(r, ways)
	var ended *Caller
	if token != "" && len(token) <= maxToken {
		c := file.byDigest(sha256.Sum256([]byte(token)))
		if c != nil && c.stands(now) {
			return c, nil
		}
		ended = c
	}
	if ways&bySession != 0 {
		if c := file.bySession(r, now); c != nil {
			return c, nil
		}
	}
	if ways&byCertificate != 0 {
		if c := g.byCertificate(file, r, now); c != nil {
			return c, nil
		}
	}
	switch {
	case ended != nil:
		return nil, unauthenticated("invalid_token", "the token has expired")
	case token == "":
		return nil, unauthenticated("", g.wanted(ways))
	}
	if wait := g.wrong.take(r.RemoteAddr, now); wait > 0 {
		g.wrong.warn(g.o.Logger, r, now)
		return nil, problem.New(problem.RateLimited, "too many wrong tokens come from this address").
			With("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	return nil, unauthenticated("invalid_token", "nobody has this token")
}

// wanted says by what a caller may make himself known.
func (g *Guard) wanted(ways Ways) string {
	var want []string
	if g.o.File != "" {
		if ways&byBearer != 0 {
			want = append(want, "a token, as Authorization: Bearer")
		} else {
			want = append(want, "a token, as "+TokenHeader)
		}
	}
	if g.o.Certificates {
		want = append(want, "a client certificate")
	}
	return "want " + strings.Join(want, ", or ")
}

// unauthenticated is the problem of a caller who is not known; why is an error code of RFC 6750, or "".
func unauthenticated(why, format string) *problem.Problem {
	challenge := `Bearer realm="breakerd"`
	if why != "" {
		challenge += `, error="` + why + `"`
	}
	return problem.New(problem.Unauthenticated, "%s", format).With("WWW-Authenticate", challenge)
}

// tokenOf returns the token of a request, "" without one. Two of them are none.
func tokenOf(r *http.Request, ways Ways) string {
	if ours := r.Header[TokenHeader]; len(ours) > 0 && ways&byOurHeader != 0 {
		if len(ours) > 1 {
			return ""
		}
		return strings.TrimSpace(ours[0])
	}
	values := r.Header["Authorization"]
	if len(values) != 1 || ways&byBearer == 0 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// byCertificate returns whom a verified client certificate names; nil: nobody. The handshake may be long ago.
func (g *Guard) byCertificate(f *file, r *http.Request, now time.Time) *Caller {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	cert := r.TLS.VerifiedChains[0][0]
	if now.After(cert.NotAfter) {
		return nil
	}
	if g.o.File == "" {
		name := nameOf(cert.Subject.CommonName)
		return &Caller{Name: name, Role: Admin, By: knownByCertificate, Until: cert.NotAfter}
	}
	l := f.bySubject[subjectOf(cert)]
	if l == nil || !l.caller.stands(now) {
		return nil
	}
	c := l.caller
	c.By = knownByCertificate
	if c.Until.IsZero() || cert.NotAfter.Before(c.Until) {
		c.Until = cert.NotAfter
	}
	return &c
}

// subjectOf returns the subject of a certificate by RFC 2253, its parts in the order that the certificate has them in.
// [pkix.Name.String] would put them in one of its own.
func subjectOf(cert *x509.Certificate) string {
	var parts pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &parts); err != nil {
		return ""
	}
	return parts.String()
}

// nameOf makes an actor's name of a certificate's.
func nameOf(common string) string {
	name := strings.Map(func(r rune) rune {
		if breaker.ValidWord(string(r)) {
			return r
		}
		return '-'
	}, common)
	name = name[:min(len(name), 64)]
	if reserved(name) || !breaker.ValidWord(name) {
		return "certificate"
	}
	return name
}

func (c *Caller) stands(now time.Time) bool { return c.Until.IsZero() || now.Before(c.Until) }

// While returns a context that ends with ctx, and within two seconds after what the caller is known by has ended: the
// time is over, or the line of the file is another one or gone. It is for answers that go on.
func (g *Guard) While(ctx context.Context, c *Caller) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if g == nil || c == nil {
		return ctx, cancel
	}
	go func() {
		defer cancel()
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for c.stands(time.Now()) && (c.line == nil || g.file.Load().has(c.line)) {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	return ctx, cancel
}
