package app

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// answers serves what a handler can do to a response.
func answers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/{agent}/early", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNotFound)
	})
	mux.HandleFunc("/implicit", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/agents/Some/upgrade", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "test")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, "hijacked\n")
		_ = conn.Close()
	})
	return mux
}

func TestLogRequests_HasStatusAndAgentOfEveryAnswer(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var log testkit.Buffer
		s := httptest.NewServer(logRequests(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})), answers()))
		t.Cleanup(s.Close)
		for path, want := range map[string]string{
			"/v1/Other/early?q=1":  `method=GET path=/v1/Other/early agent=Other status=404`,
			"/implicit":            `path=/implicit agent="" status=200`,
			"/abort":               `path=/abort agent="" status=0`,
			"/agents/Some/upgrade": `path=/agents/Some/upgrade agent=Some status=101`,
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := s.Client().Do(req)
			if (err != nil) != (path == "/abort") {
				t.Fatalf("%s: %v", path, err)
			}
			if err == nil {
				if line, _ := bufio.NewReader(res.Body).ReadString('\n'); strings.HasSuffix(path, "upgrade") && line != "hijacked\n" {
					t.Errorf("the connection was not handed over: %q", line)
				}
				_ = res.Body.Close()
			}
			testkit.Eventually(t, "the line of "+path, 10*time.Second, func() error { // it may be written after the answer
				if got := strings.Contains(log.String(), want); got != (level == slog.LevelDebug) {
					return fmt.Errorf("level %v: %s is logged: %v, in\n%s", level, want, got, log.String())
				}
				return nil
			})
		}
	}
}
