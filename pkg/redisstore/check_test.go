package redisstore_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// TestCheck_WarnsOfATimeoutThatRoundTripsNearlyReach, over a link that takes its time.
func TestCheck_WarnsOfATimeoutThatRoundTripsNearlyReach(t *testing.T) {
	t.Parallel()
	server, tls := testkit.Start(t), testkit.StartTLS(t, testkit.NewCA(t))
	for _, c := range []struct {
		delay, timeout time.Duration
		tls, warned    bool
	}{
		{0, 3 * time.Second, false, false},
		{100 * time.Millisecond, 3 * time.Second, false, false},
		{600 * time.Millisecond, 1500 * time.Millisecond, false, true},
		{400 * time.Millisecond, time.Second, false, true},
		{0, 3 * time.Second, true, false},
		{600 * time.Millisecond, 1700 * time.Millisecond, true, true},
	} {
		target := server
		if c.tls {
			target = tls
		}
		p := startProxy(t, target.Addr)
		conn, err := redisstore.Open(t.Context(), strings.Replace(target.URL(), target.Addr, p.addr, 1), redisstore.Options{Timeout: c.timeout})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Client.Ping(t.Context()).Err(); err != nil { // the handshake of TLS takes two round trips
			t.Fatal(err)
		}
		p.delay.Store(int64(c.delay))
		warnings, err := conn.Check(t.Context())
		if err != nil || (len(warnings) > 0) != c.warned {
			t.Errorf("%+v: %q, %v", c, warnings, err)
			continue
		}
		if !c.warned {
			continue
		}
		text := warnings[0]
		for _, want := range []string{"REDIS_TIMEOUT_MS is " + ms(c.timeout) + ":", "takes " + ms(c.delay)[:1], conn.Display + ": "} {
			if !strings.Contains(text, want) {
				t.Errorf("%+v: %q lacks %q", c, text, want)
			}
		}
	}
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
