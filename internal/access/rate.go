package access

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/internal/problem"
)

// rated bounds the clients whose rate is known. Of more, one that has not come for long begins anew.
const rated = 10_000

// Rate bounds the requests of each client in a second: of a name where callers are known, else of an address. A nil
// Rate bounds nothing. It is safe for concurrent use.
type Rate struct {
	limit   rate.Limit
	clients *bounded.Map[*rate.Limiter]
	refused func()
}

// NewRate makes a Rate of so many requests in a second, and as many at once; 0: nil. refused is called for each request
// that is refused.
func NewRate(perSecond int, refused func()) *Rate {
	if perSecond == 0 {
		return nil
	}
	return &Rate{rate.Limit(perSecond), bounded.New(bounded.Options[*rate.Limiter]{Max: rated}), refused}
}

// Take counts a request of a caller. It returns the problem of one that is more than the client may send.
func (l *Rate) Take(r *http.Request, c *Caller) *problem.Problem {
	if l == nil {
		return nil
	}
	who := "address " + network(r.RemoteAddr) // no name has a blank
	if c != nil && c.Name != "" {
		who = c.Name
	}
	client, ok := l.clients.Load(who)
	if !ok {
		client, _ = l.clients.LoadOrStore(who, rate.NewLimiter(l.limit, int(l.limit)))
	}
	now := time.Now()
	if client.AllowN(now, 1) {
		return nil
	}
	l.refused()
	wait := math.Ceil((1 - client.TokensAt(now)) / float64(l.limit))
	return problem.New(problem.RateLimited, "%s sends more than %d requests in a second", who, int(l.limit)).
		With("Retry-After", strconv.Itoa(max(1, int(wait))))
}
