package redisdocs_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestWorkflows_AreKeptWithTheirExecutions(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		if all, err := f.docs.WorkflowEntries(ctx); err != nil || len(all) != 0 {
			t.Errorf("none yet: %v, %v", all, err)
		}
		if text, err := f.docs.Workflow(ctx, "w"); err != nil || text != "" {
			t.Errorf("absent: %q, %v", text, err)
		}
		for _, text := range []string{"{1}", "{2}"} {
			if err := f.docs.PutWorkflow(ctx, "w", text, "[w]"); err != nil {
				t.Fatal(err)
			}
			if got, err := f.docs.Workflow(ctx, "w"); err != nil || got != text {
				t.Errorf("%q, %v; want %q", got, err, text)
			}
		}
		if got, err := f.client.HGetAll(ctx, "circuit_breaker:workflows").Result(); err != nil || !maps.Equal(got, map[string]string{"w": "{2}", "#w": "[w]"}) {
			t.Errorf("%v, %v", got, err)
		}
		if err := f.client.HSet(ctx, "circuit_breaker:workflows", "external", "{3}").Err(); err != nil {
			t.Fatal(err)
		}
		if all, err := f.docs.WorkflowEntries(ctx); err != nil || !maps.Equal(all, map[string]string{"w": "[w]", "external": ""}) {
			t.Errorf("%v, %v", all, err)
		}
		for _, want := range []bool{true, false} {
			if existed, err := f.docs.DropWorkflow(ctx, "w"); err != nil || existed != want {
				t.Errorf("existed %v, %v; want %v", existed, err, want)
			}
		}
		if all, err := f.docs.WorkflowEntries(ctx); err != nil || !maps.Equal(all, map[string]string{"external": ""}) {
			t.Errorf("%v, %v", all, err)
		}
		if text, err := f.docs.Execution(ctx, "id"); err != nil || text != "" {
			t.Errorf("absent: %q, %v", text, err)
		}
		if err := f.docs.PutExecution(ctx, "id", "{x}"); err != nil {
			t.Fatal(err)
		}
		if text, err := f.docs.Execution(ctx, "id"); err != nil || text != "{x}" {
			t.Errorf("%q, %v", text, err)
		}
		if ttl, err := f.client.TTL(ctx, "circuit_breaker:execution.id").Result(); err != nil || ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("lives %v, %v", ttl, err)
		}
	})
}

func TestWorkflows_AreAtMostAThousand(t *testing.T) {
	t.Parallel()
	f := onRedis(t)
	ctx := t.Context()
	var fields []any
	for i := range 1000 {
		fields = append(fields, fmt.Sprint("w", i), "{}", fmt.Sprint("#w", i), "[]")
	}
	if err := f.client.HSet(ctx, f.keys.Workflows(), fields...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := f.docs.PutWorkflow(ctx, "one-more", "{}", "[]"); !errors.Is(err, workflow.ErrFull) {
		t.Errorf("one more: %v", err)
	}
	if err := f.docs.PutWorkflow(ctx, "w0", "{2}", "[2]"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if all, err := f.docs.WorkflowEntries(ctx); err != nil || len(all) != 1000 || all["w0"] != "[2]" || all["w999"] != "[]" {
		t.Errorf("%d, %v", len(all), err)
	}
	if _, err := f.docs.DropWorkflow(ctx, "w1"); err != nil {
		t.Fatal(err)
	}
	if err := f.docs.PutWorkflow(ctx, "one-more", "{}", "[]"); err != nil {
		t.Errorf("in the place of one that was deleted: %v", err)
	}
}

func TestExecutions_TheOldestMakesRoom(t *testing.T) {
	t.Parallel()
	f := onRedis(t)
	s, ctx := f.docs, t.Context()
	if err := s.PutExecution(ctx, "oldest", "{}"); err != nil {
		t.Fatal(err)
	}
	others := make([]any, 9999)
	for i := range others {
		others[i] = fmt.Sprint("x", i)
	}
	if err := f.client.LPush(ctx, f.keys.Executions(), others...).Err(); err != nil {
		t.Fatal(err)
	}
	if text, err := s.Execution(ctx, "oldest"); err != nil || text != "{}" {
		t.Errorf("%q, %v; want the last of 10,000 kept", text, err)
	}
	if err := s.PutExecution(ctx, "one-more", "{}"); err != nil {
		t.Fatal(err)
	}
	text, err := s.Execution(ctx, "oldest")
	newest, err2 := s.Execution(ctx, "one-more")
	n, err3 := f.client.LLen(ctx, f.keys.Executions()).Result()
	if err := errors.Join(err, err2, err3); err != nil || text != "" || newest != "{}" || n != 10_000 {
		t.Errorf("the oldest %q, the newest %q, %d ids, %v; want the oldest gone", text, newest, n, err)
	}
	if ttl, err := f.client.TTL(ctx, f.keys.Executions()).Result(); err != nil || ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("the list lives %v, %v", ttl, err)
	}
}

func TestWorkflows_PlantedKeysMakeRoom(t *testing.T) {
	t.Parallel()
	f := onRedis(t)
	s, ctx := f.docs, t.Context()
	for _, key := range []string{f.keys.Workflows(), f.keys.Execution("id"), f.keys.Executions()} {
		if err := f.client.SAdd(ctx, key, "planted").Err(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := s.Workflow(ctx, "w")
	all, err2 := s.WorkflowEntries(ctx)
	existed, err3 := s.DropWorkflow(ctx, "w")
	x, err4 := s.Execution(ctx, "id")
	if err := errors.Join(err, err2, err3, err4); err != nil || text != "" || len(all) != 0 || existed || x != "" {
		t.Errorf("%q %v %v %q: %v", text, all, existed, x, err)
	}
	if err := errors.Join(s.PutWorkflow(ctx, "w", "{}", "[]"), s.PutExecution(ctx, "id", "{}")); err != nil {
		t.Fatal(err)
	}
	text, err = s.Workflow(ctx, "w")
	x, err2 = s.Execution(ctx, "id")
	if text != "{}" || x != "{}" {
		t.Errorf("%q %q: %v", text, x, errors.Join(err, err2))
	}
}

// The index is repaired by a SCAN for :state keys.
func TestWorkflows_AreNoAgents(t *testing.T) {
	t.Parallel()
	f := onRedis(t)
	s, ctx := f.docs, t.Context()
	for _, id := range []string{"state", "x:state", "a"} {
		if err := errors.Join(s.PutWorkflow(ctx, id, "{}", "[]"), s.PutExecution(ctx, strings.Repeat("0", 32), "{}")); err != nil {
			t.Fatal(err)
		}
	}
	f.fail(t, "a")
	if err := s.Repair(ctx, 100); err != nil {
		t.Fatal(err)
	}
	if agents, err := s.Agents(ctx); err != nil || len(agents) != 1 || agents[0] != "a" {
		t.Errorf("agents %q, %v", agents, err)
	}
	for _, agent := range []string{"workflows", "executions", "execution.a", "a:b"} {
		for _, k := range append(f.keys.Machine(agent), f.keys.Config(agent), f.keys.Profile(agent), f.keys.Quarantine(agent), f.keys.Report(agent, "x")) {
			if k == f.keys.Workflows() || k == f.keys.Execution("a") || k == f.keys.Executions() {
				t.Errorf("agent %q has the key %s", agent, k)
			}
		}
	}
}

func TestWorkflows_WaitNoLongerThanTheTimeout(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	s := newFixture(t, client, 50*time.Millisecond).docs
	server.Pause()
	defer server.Resume()
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"get":  func() error { _, err := s.Workflow(ctx, "w"); return err },
		"list": func() error { _, err := s.WorkflowEntries(ctx); return err },
		"put":  func() error { return s.PutWorkflow(ctx, "w", "{}", "[]") },
		"drop": func() error { _, err := s.DropWorkflow(ctx, "w"); return err },
		"read": func() error { _, err := s.Execution(ctx, "x"); return err },
		"keep": func() error { return s.PutExecution(ctx, "x", "{}") },
	} {
		var down *breaker.StoreError
		if err := do(); !errors.As(err, &down) || !errors.Is(err, breaker.ErrStoreUnavailable) || !down.Unknown {
			t.Errorf("%s: %v", name, err)
		}
	}
}
