package workflow_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// The Redis server dies, and comes back empty.
func TestLibrary_WorkflowsOutliveTheirRedis(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	store, err := redisstore.New(server.Client(t), false, redisstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	docs := redisdocs.New(store, server.Client(t), redisdocs.Config{Timeout: redisstore.DefaultTimeout})
	lib, err := workflow.NewLibrary(workflow.LibraryOptions{Texts: docs, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, created, err := lib.Put(ctx, []byte(full)); err != nil || !created {
		t.Fatalf("%v, %v", created, err)
	}
	d, err := lib.Get(ctx, "w:1@x")
	if err != nil || asJSON(t, d) != asJSON(t, parsed(t, full)) {
		t.Fatalf("%s, %v", asJSON(t, d), err)
	}
	executions := workflow.NewStore(workflow.StoreOptions{Records: docs, Logger: discard()})
	x := engine(echo).Execute(ctx, d, nil)
	if _, err := executions.Keep(ctx, x); err != nil {
		t.Fatal(err)
	}
	other := workflow.NewStore(workflow.StoreOptions{Records: docs, Logger: discard()})
	if got, err := other.Get(ctx, x.ID); err != nil || string(got.Text) != asJSON(t, x) {
		t.Errorf("%s, %v\nwant %s", got.Text, err, asJSON(t, x))
	}
	server.Kill()
	if _, err := lib.Get(ctx, "w:1@x"); err != nil {
		t.Errorf("the last good one: %v", err)
	}
	if _, err := executions.Get(ctx, x.ID); err != nil {
		t.Errorf("from memory: %v", err)
	}
	if _, err := other.Get(ctx, x.ID); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("from a dead server: %v", err)
	}
	if _, err := lib.Get(ctx, "ghost"); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("never seen: %v", err)
	}
	server.Restart()
	testkit.Eventually(t, "the library to see that Redis came back empty", 10*time.Second, func() error {
		if _, err := lib.Get(ctx, "w:1@x"); !errors.Is(err, workflow.ErrUnknown) {
			return fmt.Errorf("got %v", err) //nolint:errorlint // it is nil while the last good one serves
		}
		return nil
	})
}
