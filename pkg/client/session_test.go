package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

func TestClient_IsKnownByItsToken(t *testing.T) {
	t.Parallel()
	var made strings.Builder
	if err := access.NewToken([]string{"--name", "ann", "--role", "report", "--agents", "pay-*"}, &made, time.Now()); err != nil {
		t.Fatal(err)
	}
	token, entry, _ := strings.Cut(made.String(), "\n")
	file := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, app.Breakerd(), "AUTH_FILE="+file)
	c, err := client.New(client.Options{Servers: []string{url}, Token: client.Token(token)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if who := must(c.Whoami(ctx))(t); who.Name != "ann" || who.Role != "report" || who.By != "token" || len(who.Agents) != 1 {
		t.Errorf("%+v", who)
	}
	must(c.Acquire(ctx, "pay-card", client.AcquireRequest{}))(t)
	for _, refused := range []error{
		errOf(c.Acquire(ctx, "search", client.AcquireRequest{})), errOf(c.GetSummary(ctx)),
	} {
		if e, ok := errors.AsType[*client.Error](refused); !ok || e.Status != http.StatusForbidden {
			t.Errorf("%v", refused)
		}
	}
	who, cookie, err := c.OpenSession(ctx)
	if err != nil || who.Until.IsZero() || !strings.HasPrefix(cookie, access.Cookie+"=ann.") {
		t.Errorf("%+v %s %v", who, cookie, err)
	}
	if cookie, err = c.CloseSession(ctx); err != nil || !strings.HasPrefix(cookie, access.Cookie+"=;") {
		t.Errorf("%s %v", cookie, err)
	}
	if _, err := newClient(t, url).Whoami(ctx); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("without a token: %v", err)
	}
}

func errOf[T any](_ T, err error) error { return err }

// A token is replaced while a stream is read: its end ends the stream, which goes on with the next token where it was.
func TestStream_GoesOnWithTheNextToken(t *testing.T) {
	t.Parallel()
	var tokens, entries []string
	for range 2 {
		var made strings.Builder
		if err := access.NewToken([]string{"--name", "ann", "--role", "operate"}, &made, time.Now()); err != nil {
			t.Fatal(err)
		}
		token, entry, _ := strings.Cut(made.String(), "\n")
		tokens, entries = append(tokens, token), append(entries, entry)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	url := serve(t, app.Breakerd(), patient, "AUTH_FILE="+write("auth", entries[0]+"\n"+entries[1]))
	c, err := client.New(client.Options{
		Servers: []string{url}, TokenFile: write("token", tokens[0]),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	hold := func(agent string) {
		must(c.OpenCircuitBreaker(ctx, agent, client.HoldRequest{Reason: "fraud"}))(t)
	}
	hold("a")
	seen := must(c.ListFleetEvents(ctx, client.EventQuery{Agent: "a"}))(t)
	hold("b")
	var heard []string
	for item, err := range c.StreamEvents(ctx, client.StreamQuery{After: seen.Events[0].ID, Kinds: []string{"manual_open"}}) {
		if err != nil || item.Reset != "" {
			t.Fatal(item, err)
		}
		if heard = append(heard, item.AgentID); len(heard) == 2 {
			break
		}
		write("token", tokens[1])
		write("auth", entries[1])
		first, err := client.New(client.Options{Servers: []string{url}, Token: client.Token(tokens[0])})
		if err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the first token to end", 10*time.Second, func() error {
			if _, err := first.Whoami(ctx); !errors.Is(err, client.ErrUnauthenticated) {
				return fmt.Errorf("it is taken: %w", err)
			}
			return nil
		})
		hold("c")
	}
	if !slices.Equal(heard, []string{"b", "c"}) {
		t.Error(heard)
	}
}
