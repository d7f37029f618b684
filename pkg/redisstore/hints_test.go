package redisstore_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

// TestHint_APlainlyClosedBreakerTakesTwoReads follows one breaker through its states: which acquires are reads, which
// are scripts, and which are first the one and then the other.
func TestHint_APlainlyClosedBreakerTakesTwoReads(t *testing.T) {
	t.Parallel()
	e, p, draws := realEngine(t), breaker.DefaultPolicy(), 0
	calls := func(name string) int {
		m := regexp.MustCompile(`cmdstat_` + name + `:calls=(\d+)`).FindStringSubmatch(e.client.Info(t.Context(), "commandstats").Val())
		if m == nil {
			return 0
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	apply := func(op machine.Op) machine.Code {
		t.Helper()
		draws++
		op.Draw = fmt.Sprintf("%015x", draws)
		if op.Verb == machine.VerbAcquire {
			op.Token = fmt.Sprintf("%016x", draws)
		}
		r, err := e.Apply(storetest.BaseMs, "a", p, op)
		if err != nil {
			t.Fatal(err)
		}
		return r.Code
	}
	asks := func(when string, code machine.Code, scripts, hgets int) { // a script sends HGET only if :state is closed
		t.Helper()
		_ = e.client.ConfigResetStat(t.Context()).Err()
		got := apply(machine.Op{Verb: machine.VerbAcquire})
		if s, h := calls("evalsha")+calls("eval"), calls("hget"); got != code || s != scripts || h != hgets {
			t.Errorf("%s: %s by %d scripts and %d HGET, want %s by %d and %d", when, got, s, h, code, scripts, hgets)
		}
	}
	apply(machine.Op{Verb: machine.VerbAcquire}) // loads the script
	asks("nothing there", machine.CodeOK, 1, 0)
	apply(machine.Op{Verb: machine.VerbRecord, Summary: machine.Summary{Successes: 1}})
	asks("closed, not known yet", machine.CodeOK, 1, 1)
	asks("closed", machine.CodeOK, 0, 1)
	apply(machine.Op{Verb: machine.VerbRecord, Summary: machine.Summary{Failures: 5, Lead: 5, Trail: 5, MaxRun: 5}})
	asks("opened since", machine.CodeRefused, 1, 1)
	asks("open", machine.CodeRefused, 1, 0)
	apply(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.ResetClosed, Actor: "alice"}})
	asks("closed since", machine.CodeOK, 1, 1)
	asks("closed again", machine.CodeOK, 0, 1)
	if err := e.Edit("a", storetest.Edit{Do: storetest.Plant, Key: storetest.State}); err != nil {
		t.Fatal(err)
	}
	asks("planted", machine.CodeOK, 1, 1)
	asks("repaired", machine.CodeOK, 1, 1)
	p.Disabled = true
	asks("disabled", machine.CodeDisabled, 1, 0)
}
