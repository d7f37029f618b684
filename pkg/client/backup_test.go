package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

// become tells what became of the sections: "holds create 2".
func become(r client.Restoration) (out []string) {
	for _, s := range r.Sections {
		for what, n := range map[string]int64{"create": s.Create, "replace": s.Replace, "same": s.Same, "newer": s.Newer, "expired": s.Expired} {
			if n > 0 {
				out = append(out, fmt.Sprintf("%s %s %d", s.Section, what, n))
			}
		}
	}
	return out
}

func TestClient_BacksUpAndRestores(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, redis string) {
		ctx := t.Context()
		c := breakerdOn(t, redis)
		trip(t, c, "trips")
		must(c.OpenCircuitBreaker(ctx, "banned", client.HoldRequest{Reason: "flooding_quarantine", Protected: true}))(t)
		must(c.PutConfig(ctx, "trips", client.Override{FailureThreshold: new(int64(9))}, ""))(t)
		must(c.PutFleet(ctx, client.FleetRequest{Action: "shed", Percentage: 20, Reason: "overload"}, ""))(t)
		var file bytes.Buffer
		made := must(c.GetBackup(ctx, &file))(t)
		if made.Records["holds"] != 1 || made.Records["breakers"] != 1 || made.Records["overrides"] != 1 || made.Records["gate"] != 1 ||
			made.Prefix != "circuit_breaker" || time.Since(made.TakenAt) > time.Hour || len(made.SHA256) != 64 {
			t.Errorf("%+v", made)
		}
		if read := must(client.VerifyBackup(bytes.NewReader(file.Bytes())))(t); read.SHA256 != made.SHA256 {
			t.Errorf("%+v, was %+v", read, made)
		}
		other := breakerdOn(t, testkit.Start(t).URL())
		in := bytes.NewReader(file.Bytes())
		dry := must(other.RestoreBackup(ctx, in, in.Size(), client.RestoreQuery{DryRun: true, Only: []string{"holds"}}))(t)
		if !dry.DryRun || fmt.Sprint(become(dry)) != "[holds create 1]" || dry.Sections[0].Names["create"][0] != "banned" {
			t.Errorf("%+v", dry)
		}
		if _, err := other.GetCircuitBreaker(ctx, "banned"); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("a dry run restored: %v", err)
		}
		must(other.RestoreBackup(ctx, in, in.Size(), client.RestoreQuery{}))(t)
		banned := must(other.GetCircuitBreaker(ctx, "banned"))(t)
		if banned.Hold == nil || banned.Hold.Actor != "alice" || banned.State != "OPEN" {
			t.Errorf("%+v", banned)
		}
		testkit.Eventually(t, "the restored override and gate", 10*time.Second, func() error {
			trips, err := other.GetCircuitBreaker(ctx, "trips")
			gate, err2 := other.GetFleet(ctx)
			if err = errors.Join(err, err2); err != nil || trips.State != "OPEN" || string(trips.Policy["failure_threshold"].Value) != "9" || gate.Share != 0.8 || len(gate.Missing) > 0 {
				return fmt.Errorf("%+v %+v %w", trips.Policy["failure_threshold"], gate, err)
			}
			return nil
		})
		if _, err := other.Acquire(ctx, "banned", client.AcquireRequest{}); err == nil {
			t.Error("the banned agent is called")
		}
		audit := must(other.ListAudit(ctx, client.AuditQuery{EventQuery: client.EventQuery{Kinds: []string{"restore"}}}))(t)
		if len(audit.Entries) != 2 || audit.Entries[0].Actor != "alice" || !strings.Contains(audit.Entries[0].Reason, "1 holds") {
			t.Errorf("the audit: %+v", audit.Entries)
		}
		cut := bytes.NewReader(file.Bytes()[:file.Len()/2])
		_, err := other.RestoreBackup(ctx, cut, cut.Size(), client.RestoreQuery{})
		if e, _ := errors.AsType[*client.Error](err); e == nil || e.Code != client.CodeBackupBroken {
			t.Errorf("a cut file: %v", err)
		}
	})
}

// A breakerd that is killed in the middle leaves breakers that are whole, and a second restore writes the others.
func TestClient_RestoresAgainAfterBreakerdWasKilled(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from, to := testkit.Start(t), testkit.Start(t)
	c := breakerdOn(t, from.URL())
	const agents = 750 // below NEW_AGENTS_PER_SECOND
	var ops []client.BatchOp
	for i := range agents {
		ops = append(ops, client.BatchOp{Op: "report", Agent: fmt.Sprint("agent-", i), Outcome: "failure"})
		if len(ops) == 250 {
			must(c.Batch(ctx, ops))(t)
			ops = nil
		}
	}
	var file bytes.Buffer
	must(c.GetBackup(ctx, &file))(t)
	r := startReplica(t, to.URL())
	one := must(client.New(client.Options{Servers: []string{r.url()}}))(t)
	in := bytes.NewReader(file.Bytes())
	ended := make(chan error, 1)
	go func() {
		_, err := one.RestoreBackup(ctx, in, in.Size(), client.RestoreQuery{})
		ended <- err
	}()
	redis := to.Client(t)
	testkit.Eventually(t, "some of the breakers", 30*time.Second, func() error {
		if n := redis.DBSize(ctx).Val(); n < 100 {
			return fmt.Errorf("%d keys", n)
		}
		return nil
	})
	r.end(t, syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Log("the restore was quicker than the kill")
	}
	one.CloseIdleConnections()
	r.start(t)
	again := must(one.RestoreBackup(ctx, in, in.Size(), client.RestoreQuery{}))(t)
	third := must(one.RestoreBackup(ctx, in, in.Size(), client.RestoreQuery{DryRun: true, Only: []string{"breakers"}}))(t)
	if fmt.Sprint(become(third)) != fmt.Sprintf("[breakers same %d]", agents) {
		t.Errorf("again %v, then %v", become(again), become(third))
	}
	one.CloseIdleConnections()
}

// A backup whose end is missing is an error, whoever cut it.
func TestClient_NoticesABackupThatIsCut(t *testing.T) {
	t.Parallel()
	c := breakerdOn(t, testkit.Start(t).URL())
	trip(t, c, "trips")
	var file bytes.Buffer
	must(c.GetBackup(t.Context(), &file))(t)
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(file.Bytes()[:file.Len()-30])
	}))
	defer cut.Close()
	half := must(client.New(client.Options{Servers: []string{cut.URL}}))(t)
	if _, err := half.GetBackup(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "its end is missing") {
		t.Errorf("cut: %v", err)
	}
	half.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.GetBackup(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
