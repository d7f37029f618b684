package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/testkit"
)

// server is a breakerd in this process.
type server struct {
	testing.TB

	url, token string
	end        func() int // stops it, and gives its exit code
}

// serve starts a breakerd on a free port of loopback.
func serve(t testing.TB, environ ...string) *server {
	t.Helper()
	s := &server{TB: t}
	s.start(testkit.FreeAddress(t), environ...)
	return s
}

func (s *server) start(address string, environ ...string) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var log testkit.Buffer
	done := make(chan int, 1)
	environ = append([]string{"BREAKERD_LISTEN=" + address, "SHUTDOWN_DELAY_SECONDS=0", "LOG_LEVEL=warn", "REDIS_TIMEOUT_MS=3000"}, environ...)
	go func() { done <- app.Breakerd().Run(ctx, nil, environ, io.Discard, &log) }()
	s.url = "http://" + address
	s.end = sync.OnceValue(func() int {
		cancel()
		return <-done
	})
	s.Cleanup(func() {
		s.end()
		if s.Failed() {
			s.Logf("log of breakerd:\n%s", log.String())
		}
	})
	testkit.Eventually(s, "breakerd answers", 20*time.Second, func() error {
		select {
		case code := <-done:
			done <- code
			return fmt.Errorf("it has ended with %d: %s", code, log.String())
		default:
		}
		res, err := http.Get(s.url + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", res.Status)
		}
		return nil
	})
}

// do makes a request, and wants a 2xx.
func (s *server) do(method, path, body string, headers ...string) map[string]any {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		s.Fatalf("%s %s: %s %s %v", method, path, res.Status, text, err)
	}
	var out map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			s.Fatal(err, string(text))
		}
	}
	return out
}

const breakers = "/v1/admin/circuit_breakers/"

// report reports so many outcomes of an agent.
func (s *server) report(agent, outcome string, times int) {
	s.Helper()
	for range times {
		s.do(http.MethodPost, "/v1/circuit_breakers/"+agent+"/report", fmt.Sprintf(`{"outcome":%q}`, outcome))
	}
}

// trip opens an agent's breaker by failures.
func (s *server) trip(agent string) { s.report(agent, "failure", 5) }
