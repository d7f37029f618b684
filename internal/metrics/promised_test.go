package metrics

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/testkit/promised"
)

var descText = regexp.MustCompile(`fqName: "(\w+)".*constLabels: \{(.*?)\}.*variableLabels: \{(.*?)\}`)

// TestMetrics_KeepsWhatIsPromised of the names of all metrics and their labels.
func TestMetrics_KeepsWhatIsPromised(t *testing.T) {
	t.Parallel()
	m := New("v", 10, nil)
	m.RegisterLog(func() int64 { return 0 })
	m.RegisterPool(func() *redis.PoolStats { return &redis.PoolStats{} }, 0)
	m.RegisterHealth(health.New())
	NewBridge(m)
	NewDurations(m)
	CountWebhooks(m)
	m.Refused()
	var names []string
	descs := make(chan *prometheus.Desc)
	go func() {
		m.registry.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		f := descText.FindStringSubmatch(d.String())
		if f == nil {
			t.Fatal(d)
		}
		if strings.HasPrefix(f[1], "circuit_breaker_") || strings.HasPrefix(f[1], "bridge_") {
			constant := regexp.MustCompile(`="[^"]*"`).ReplaceAllString(f[2], "")
			names = append(names, f[1]+"{"+strings.Trim(constant+","+f[3], ",")+"}")
		}
	}
	slices.Sort(names)
	promised.Names(t, "promised.txt", slices.Compact(names))
}
