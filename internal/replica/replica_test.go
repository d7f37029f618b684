package replica

import (
	"log/slog"
	"testing"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

type broken struct{ breaker.NopObserver }

func (broken) Event(string, breaker.Event, bool) { panic("broken") }

// An event whose caller has gone is logged, although another Observer panics.
func TestReplica_LateEventReachesEveryObserver(t *testing.T) {
	t.Parallel()
	settings, err := config.LoadReplica(nil, config.Own{})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{t: t, out: new(testkit.Buffer)}
	m.Replica, err = New(t.Context(), Options{
		Replica: settings, Logger: slog.New(slog.NewJSONHandler(m.out, nil)), Embedded: embedded.Start, Observer: broken{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Stop(t.Context(), false) }()
	m.lateEvent("a", breaker.Event{Kind: machine.EventOpened, From: breaker.Closed, To: breaker.Open})
	if got := len(m.logged(machine.EventOpened)); got != 1 {
		t.Errorf("%d lines: %s", got, m.out)
	}
}
