package access

import (
	"hash/maphash"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// Of wrong tokens of an address: so many at once, and then one in a time.
const (
	wrongAtOnce = 10
	wrongEvery  = time.Second
)

// slowdown bounds how many wrong tokens an address may try. Addresses share a fixed number of places: no number of
// addresses takes more memory, and who shares a place with another is slowed for that one's wrong tokens too. A right
// token is never slowed.
type slowdown struct {
	seed   maphash.Seed
	places [4096]atomic.Int64 // until when each is taken, in ns since 1970: the generic cell rate algorithm
	warned atomic.Int64       // when the log was last told
}

func newSlowdown() *slowdown { return &slowdown{seed: maphash.MakeSeed()} }

// take counts a wrong token of an address, host:port. It returns how long the address has to wait, if it has had its
// share.
func (s *slowdown) take(remote string, now time.Time) (wait time.Duration) {
	place := &s.places[maphash.String(s.seed, network(remote))%uint64(len(s.places))]
	for {
		before := place.Load()
		until := max(before, now.UnixNano()) + int64(wrongEvery)
		if ahead := time.Duration(until - now.UnixNano()); ahead > wrongAtOnce*wrongEvery {
			return ahead - wrongAtOnce*wrongEvery
		}
		if place.CompareAndSwap(before, until) {
			return 0
		}
	}
}

// network is what counts as one address: of IPv6 the /64, of which one host has all.
func network(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return ""
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	return ip.String()
}

// warn logs that an address is slowed, once a minute at most.
func (s *slowdown) warn(log *slog.Logger, r *http.Request, now time.Time) {
	last := s.warned.Load()
	if now.UnixNano()-last < int64(time.Minute) || !s.warned.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	log.WarnContext(r.Context(), "wrong tokens are slowed", "event", "access.wrong_tokens",
		"address", network(r.RemoteAddr))
}
