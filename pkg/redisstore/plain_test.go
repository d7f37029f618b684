package redisstore_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

// TestAPlainlyClosedBreakerTakesTwoReads follows one breaker through its states: which acquires are reads, which are scripts, and
// which are first the one and then the other.
func TestAPlainlyClosedBreakerTakesTwoReads(t *testing.T) {
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
	apply := func(op breaker.Op) breaker.Code {
		t.Helper()
		draws++
		op.Draw = fmt.Sprintf("%015x", draws)
		if op.Verb == breaker.VerbAcquire {
			op.Token = fmt.Sprintf("%016x", draws)
		}
		r, err := e.Apply(storetest.BaseMs, "a", p, op)
		if err != nil {
			t.Fatal(err)
		}
		return r.Code
	}
	asks := func(when string, code breaker.Code, scripts, hgets int) { // a script says HGET only where :state is closed
		t.Helper()
		_ = e.client.ConfigResetStat(t.Context()).Err()
		got := apply(breaker.Op{Verb: breaker.VerbAcquire})
		if s, h := calls("evalsha")+calls("eval"), calls("hget"); got != code || s != scripts || h != hgets {
			t.Errorf("%s: %s by %d scripts and %d HGET, want %s by %d and %d", when, got, s, h, code, scripts, hgets)
		}
	}
	apply(breaker.Op{Verb: breaker.VerbAcquire}) // now the script is known
	asks("nothing there", breaker.CodeOK, 1, 0)
	apply(breaker.Op{Verb: breaker.VerbRecord, Summary: breaker.Summary{Successes: 1}})
	asks("closed, not known yet", breaker.CodeOK, 1, 1)
	asks("closed", breaker.CodeOK, 0, 1)
	apply(breaker.Op{Verb: breaker.VerbRecord, Summary: breaker.Summary{Failures: 5, Lead: 5, Trail: 5, MaxRun: 5}})
	asks("opened since", breaker.CodeRefused, 1, 1)
	asks("open", breaker.CodeRefused, 1, 0)
	apply(breaker.Op{Verb: breaker.VerbForce, Force: breaker.Force{Target: breaker.ResetClosed, Actor: "alice"}})
	asks("closed since", breaker.CodeOK, 1, 1)
	asks("closed again", breaker.CodeOK, 0, 1)
	if err := e.Edit("a", storetest.Edit{Do: storetest.Plant, Key: storetest.State}); err != nil {
		t.Fatal(err)
	}
	asks("planted", breaker.CodeOK, 1, 1)
	asks("healed", breaker.CodeOK, 1, 1)
	p.Enabled = false
	asks("disabled", breaker.CodeDisabled, 1, 0)
}
