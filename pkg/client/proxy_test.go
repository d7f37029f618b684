package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/pkg/client"
)

// cutting is a proxy that forwards each request, and cuts some of the connections before or within the answer.
func cutting(t *testing.T, server string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	forward := func(from net.Conn) {
		defer from.Close()
		defer context.AfterFunc(ctx, func() { from.Close() })()
		to, err := net.Dial("tcp", strings.TrimPrefix(server, "http://"))
		if err != nil {
			return
		}
		defer to.Close()
		all.Go(func() {
			_, _ = io.Copy(to, from)
			to.Close()
		})
		for answer := make([]byte, 64<<10); ; {
			n, err := to.Read(answer) // ends with from, at whose end to is closed
			if err != nil {
				return
			}
			switch rand.IntN(6) {
			case 0:
				return
			case 1:
				_, _ = from.Write(answer[:n/2])
				return
			}
			if _, err := from.Write(answer[:n]); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { forward(conn) })
		}
	})
	return "http://" + l.Addr().String()
}

// What breakerd has counted is what callers know to be counted, and at most what they do not know besides. With a key
// it is exactly what they know.
func TestSend_ThroughAProxyThatCuts(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, redis string) {
		direct := breakerdOn(t, redis)
		url := serve(t, app.Breakerd(), "REDIS_URL="+redis, patient)
		url = cutting(t, url)
		c := must(client.New(client.Options{Servers: []string{url, url, url}, Actor: "alice"}))(t)
		const each = 200
		success := client.ReportRequest{Outcome: "success"}
		var known, unknown int64
		for range each {
			switch r, err := c.Report(t.Context(), "bare", success, ""); {
			case err == nil && r.Counted:
				known++
			case errors.Is(err, client.ErrUnknown):
				unknown++
			default:
				t.Fatalf("%+v %v", r, err)
			}
		}
		for i := range each {
			for {
				if _, err := c.Report(t.Context(), "keyed", success, fmt.Sprint("key-", i)); err == nil {
					break
				}
			}
		}
		for i := range each / 4 {
			_, err := c.OpenCircuitBreaker(t.Context(), fmt.Sprint("held-", i), client.HoldRequest{Reason: "fraud"})
			if err != nil && !errors.Is(err, client.ErrUnknown) {
				t.Error(err)
			}
		}
		bare := must(direct.GetCircuitBreaker(t.Context(), "bare"))(t).Totals.Successes
		if bare < known || bare > known+unknown || unknown == 0 {
			t.Errorf("%d were counted: %d known, %d unknown", bare, known, unknown)
		}
		if n := must(direct.GetCircuitBreaker(t.Context(), "keyed"))(t).Totals.Successes; n != each {
			t.Errorf("%d with a key were counted, of %d", n, each)
		}
		times := map[string]int{}
		for e, err := range direct.AllAudit(t.Context(), client.AuditQuery{}) {
			if times[e.AgentID]++; err != nil || times[e.AgentID] > 1 {
				t.Errorf("%s was opened %d times (%v)", e.AgentID, times[e.AgentID], err)
			}
		}
	})
}
