package breakergrpc

import (
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// maxTargets bounds the targets whose names are kept.
const maxTargets = 1000

// targets are the names of the agents at the targets of connections. They are safe for concurrent use.
type targets struct {
	names sync.Map // string → string; "": no valid name
	count atomic.Int64
}

// name returns the name of the agent at a target, or "". first: nobody has asked about target before.
func (t *targets) name(target string) (name string, first bool) {
	if v, ok := t.names.Load(target); ok {
		name, _ = v.(string)
		return name, false
	}
	name = targetName(target)
	if t.count.Load() >= maxTargets {
		return name, false
	}
	_, before := t.names.LoadOrStore(target, name)
	if !before {
		t.count.Add(1)
	}
	return name, !before
}

// targetName is the name of the agent at a target such as dns://8.8.8.8/example.com:50051; "": none. 443 is the port
// that gRPC's resolver of DNS adds.
func targetName(target string) string {
	endpoint := target
	if u, err := url.Parse(target); err == nil && u.Scheme != "" {
		endpoint = strings.TrimPrefix(u.Path, "/")
	}
	name, ok := breakerhttp.HostName(&url.URL{Scheme: "https", Host: endpoint})
	if !ok {
		return ""
	}
	return name
}
