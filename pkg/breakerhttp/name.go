package breakerhttp

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/idna"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// HostName is the name of the agent at a URL: its host in lower case and ASCII (IDNA), without the dot at its end, and
// its port, unless that is the scheme's default. An IPv6 address is ip6- and its shortest form, with - for each colon
// and @ before a zone. ok: it is a valid name, which for example _service.example is not.
func HostName(u *url.URL) (name string, ok bool) {
	host := strings.TrimSuffix(u.Hostname(), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		if host = ip.String(); ip.Is6() {
			host = "ip6-" + strings.NewReplacer(":", "-", "%", "@").Replace(host)
		}
	} else if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	name = strings.ToLower(host)
	port := u.Port()
	if n, err := strconv.Atoi(port); err == nil {
		port = strconv.Itoa(n) // 0443
	}
	scheme := strings.ToLower(u.Scheme)
	if port != "" && (scheme != "http" || port != "80") && (scheme != "https" || port != "443") {
		name += ":" + port
	}
	return name, breaker.ValidName(name)
}

// maxUnnamed bounds the hosts that are logged because they have no valid name.
const maxUnnamed = 100

// unnamed are the hosts that were logged. It is safe for concurrent use.
type unnamed struct {
	mu    sync.Mutex
	hosts map[string]bool
}

// first reports whether host is to be logged: once, and only the first maxUnnamed.
func (u *unnamed) first(host string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hosts[host] || len(u.hosts) >= maxUnnamed {
		return false
	}
	if u.hosts == nil {
		u.hosts = map[string]bool{}
	}
	u.hosts[host] = true
	return true
}
