package ctl_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/ctl"
	"github.com/breakerd/breakerd/pkg/client"
)

// fleetOf serves replicas as a server called self knows them.
func fleetOf(t *testing.T, self string, degraded bool, replicas ...client.Replica) string {
	t.Helper()
	list := client.ReplicaList{Self: self, Degraded: degraded, NowMs: time.Now().UnixMilli(), Replicas: replicas}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func runs(t *testing.T, line string, servers ...string) (out string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args := append(strings.Fields(line), "--server", strings.Join(servers, ","))
	environ := []string{"HOME=" + t.TempDir()}
	code = ctl.Run(t.Context(), args, environ, ctl.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return regexp.MustCompile(`  +`).ReplaceAllString(stdout.String(), "  "), code
}

// TestCluster_SaysWhatIsWrong, of replicas that no script can bring about in a moment.
func TestCluster_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	now := time.Now()
	certificate := func(role string, left time.Duration) client.Certificate {
		return client.Certificate{Role: role, Subject: "CN=x", NotAfter: now.Add(left + time.Hour)}
	}
	const day = 24 * time.Hour
	a := client.Replica{
		ID: "a", State: "alive", Store: "s", Version: "v2", StartedAt: now.Add(-23*time.Hour - 45*time.Minute - 30*time.Second), Agents: 3421,
		Labels: map[string]string{"canary": "true"}, CPU: client.CPU{Share: 0.89, Cores: 2}, Memory: client.Memory{UsedBytes: 7 << 30},
		Certificates: []client.Certificate{certificate("listen", 25*day-2*time.Hour), certificate("redis_ca", 90*day)},
	}
	b := client.Replica{
		ID: "b", State: "alive", Store: "s", Version: "v1", StartedAt: now.Add(-90 * day), Memory: client.Memory{UsedBytes: 90, LimitBytes: 100},
		Waiting: client.Waiting{Outcomes: 10_001, Agents: 2, AgeSeconds: 70}, Certificates: []client.Certificate{certificate("listen", -2*day), certificate("redis", 6*day)},
	}
	cut := client.Replica{ID: "c", State: "alive", Store: "s", Version: "v1", DegradedSince: now.Add(-time.Minute), Waiting: client.Waiting{Outcomes: 142}}
	gone := client.Replica{ID: "c", State: "gone", Version: "v1", AgeSeconds: 45}
	whole := fleetOf(t, "a", false, a, b, gone)
	minority := fleetOf(t, "c", true, cut)
	for _, c := range []struct {
		line    string
		servers []string
		code    int
		want    string
	}{
		{"cluster members", []string{whole}, 0, "NODE-ID  STATUS  LAST-SEEN  AGENTS\na  alive  0s ago  3421\nb  alive  0s ago  0\nc  failed  45s ago  0\n"},
		{"cluster status", []string{whole}, 0, "Status: HEALTHY (2 of 3 replicas reach Redis)\nOperations: READ-WRITE\nQueued writes: 10001\nReplicas: a, b\nFailed: c\n"},
		{"cluster status", []string{minority}, 0, "Status: DEGRADED (c is cut off from Redis)\nOperations: READ-ONLY\nQueued writes: 142\nReplicas: c\nDegraded: c\n"},
		{"cluster detect-partition", []string{whole, minority}, 5, "WARNING: Network partition detected\nPartition A: [a, b] (majority)\nPartition B: [c] (minority, cut off from Redis, 142 queued)\n"},
		{"cluster detect-partition", []string{whole}, 5, "WARNING: Network partition detected\nPartition A: [a, b] (majority)\nSilent: [c] (dead, or cut off from Redis and from here)\n"},
		{"cluster detect-partition", []string{minority}, 5, "WARNING: Network partition detected\nPartition A: [c] (majority, cut off from Redis, 142 queued)\n"},
		{"cluster detect-partition", []string{fleetOf(t, "a", false, a, b), "http://127.0.0.1:1"}, 7, "No partition: 2 replicas reach one Redis\n"},
		{"cluster upgrade status", []string{whole}, 0, "PHASE: Canary\nPROGRESS: 1/2 nodes upgraded to v2\nCANARY: Healthy for 23h45m (a)\nVERSION v1: 1\nVERSION v2: 1\n"},
		{"cluster upgrade status --to v1", []string{whole}, 0, "PHASE: Rolling upgrade\nPROGRESS: 1/2 nodes upgraded to v1\nCANARY: Not healthy: still v2 (a)\nVERSION v1: 1\nVERSION v2: 1\n"},
		{"queue stats", []string{whole}, 0, "NODE  QUEUED  AGENTS  OLDEST  STATUS\na  0  0  0s  OK\nb  10001  2  1m10s  BACKLOG\nc  0  0  0s  OK\n"},
		{"queue drain --timeout 1ms", []string{whole}, 8, "NODE  QUEUED  AGENTS  OLDEST  STATUS\na  0  0  0s  OK\nb  10001  2  1m10s  BACKLOG\nc  0  0  0s  OK\n"},
		{"resources", []string{whole}, 0, "NODE  CPU  MEMORY  AGENTS  HEADROOM\na  89%  7.0GB  3421  LOW\nb  0%  0KB  0  LOW\nc  0%  -  0  OK\n"},
		{"security cert-status", []string{whole}, 5, "NODE-ID  ROLE  EXPIRES-IN  STATUS\nb  listen  -1 days  EXPIRED\nb  redis  6 days  CRITICAL\na  listen  24 days  WARNING\na  redis_ca  90 days  OK\n"},
		{"cluster ping c --timeout 1ms", []string{whole}, 5, "NODE-ID  HEARTBEAT  REDIS P50  REDIS P99\nc  none within 1ms  -  -\n"},
		{"cluster ping", []string{minority}, 7, ""},
	} {
		if out, code := runs(t, c.line, c.servers...); code != c.code || out != c.want {
			t.Errorf("%s: exit code %d, want %d; it prints\n%s, want\n%s", c.line, code, c.code, out, c.want)
		}
	}
}

// TestDetectPartition_TwoStores: replicas of two Redis are two fleets.
func TestDetectPartition_TwoStores(t *testing.T) {
	t.Parallel()
	one := client.Replica{ID: "one", State: "alive", Store: "s1"}
	two := client.Replica{ID: "two", State: "alive", Store: "s2"}
	out, code := runs(t, "cluster detect-partition", fleetOf(t, "one", false, one), fleetOf(t, "two", false, two))
	if want := "WARNING: Network partition detected\nPartition A: [one] (half)\nPartition B: [two] (half)\n"; code != 5 || out != want {
		t.Errorf("%d: %s", code, out)
	}
}
