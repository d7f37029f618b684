package app

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// TestWebhooks_TellAndHealthShowsABadFile: a bad file of webhooks degrades the health of a program that goes on.
func TestWebhooks_TellAndHealthShowsABadFile(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, url string) {
		bodies := make(chan string, 10)
		receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			bodies <- string(body)
		}))
		t.Cleanup(receiver.Close)
		path := filepath.Join(t.TempDir(), "webhooks.yaml")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("- {name: pager, url: '" + receiver.URL + "'}")
		d := serveBreakerd(t, url, "WEBHOOKS_FILE="+path)
		testkit.Eventually(t, "a sender", 20*time.Second, func() error {
			_, list := d.do(t, "GET", "/v1/admin/webhooks", "")
			hooks, _ := list["webhooks"].([]any)
			if hook, _ := hooks[0].(map[string]any); hook["sender"] != d.ID || hook["cursor"] == nil {
				return errors.New("none")
			}
			return nil
		})
		d.do(t, "POST", "/v1/admin/circuit_breakers/payments/open", `{"reason":"a fire"}`, "X-Actor", "alice")
		select {
		case body := <-bodies:
			for _, part := range []string{`"agent_id":"payments"`, `"event":"manual_open"`, `"actor":"alice"`, `"openings":1`} {
				if !strings.Contains(body, part) {
					t.Errorf("no %s in %s", part, body)
				}
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing has come")
		}
		health := func(want string) {
			t.Helper()
			testkit.Eventually(t, "webhooks to be "+want, 20*time.Second, func() error {
				_, h := d.do(t, "GET", "/health/checks", "")
				checks, _ := h["checks"].(map[string]any)
				if check, _ := checks["webhooks"].(map[string]any); check["status"] != want || check["detail"] != path {
					return errors.New(want)
				}
				return nil
			})
		}
		health("healthy")
		write("- {name: pager, url: nowhere}")
		health("degraded")
		write("[]")
		health("healthy")
	})
}
