package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestList_SelectsByModeAndRamp(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	f.Do("PUT", listPath+"/tripped/config", `{"mode":"observe"}`).Want(201)
	f.Do("POST", listPath+"/tripped-late/reset", `{"target_state":"CLOSED","gradual_seconds":60,"reason":"back"}`).Want(200)
	now := f.records.NowMs.Load()
	f.records.happen(fmt.Sprintf("%d-0", now), "tripped-late", fmt.Sprintf("%d manual_reset open>closed 00000000000000a1 alice 0/0/0/0 back", now))
	for query, want := range map[string]string{
		"mode=observe": "tripped", "mode=observe,disabled": "tripped", "ramping=true": "tripped-late",
		"ramping=true&state=OPEN": "", "ramping=true&sort=worst": "tripped-late", "mode=enforce&ramping=true": "tripped-late",
	} {
		g := f.Do("GET", listPath+"?"+query, "").Want(200)
		if have := stateless(names(g)); have != want || g.JSON["total"] != float64(len(strings.Fields(want))) {
			t.Errorf("%s: %s of %v, want %s", query, have, g.JSON["total"], want)
		}
	}
	f.Do("GET", summaryPath, "").Want(200, "ramping=1")
	f.advance(61 * time.Second)
	f.Do("POST", listPath+"/x/open", `{"reason":"the next list is read anew"}`).Want(200)
	f.Do("GET", listPath+"?ramping=true", "").Want(200, "total=0")
	for _, bad := range []string{"mode=lenient", "ramping=yes", "offset=-1", "offset=x", "offset=1&cursor=x"} {
		f.Do("GET", listPath+"?"+bad, "").WantProblem(422, problem.InvalidValue)
	}
}

func TestList_BeginsBehindAnOffset(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	all := strings.Fields(stateless(names(f.Do("GET", listPath+"?sort=worst", "").Want(200))))
	for offset := range len(all) + 2 {
		g := f.Do("GET", fmt.Sprintf("%s?sort=worst&offset=%d&limit=3", listPath, offset), "").Want(200, fmt.Sprintf("total=%d", len(all)))
		from := min(offset, len(all))
		if have, want := stateless(names(g)), strings.Join(all[from:min(from+3, len(all))], " "); have != want {
			t.Errorf("behind %d: %s, want %s", offset, have, want)
		}
	}
}

func TestSeries_OfTheWindow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"success"}`).Want(200)
	}
	f.advance(20 * time.Second)
	f.fail("a", 2)
	g := f.Do("GET", listPath+"?include=series", "").Want(200,
		"circuit_breakers.0.series.slots=30", "circuit_breakers.0.series.slot_seconds=4", `circuit_breakers.0.mode="enforce"`,
		"circuit_breakers.0.series.points.0.calls=3", "circuit_breakers.0.series.points.0.failures=0",
		"circuit_breakers.0.series.points.1.calls=2", "circuit_breakers.0.series.points.1.failures=2", "circuit_breakers.0.series.points.1.slot=27",
		"circuit_breakers.0.series.points.2=null")
	if slot := g.At("circuit_breakers.0.series.points.0.slot"); slot != 22.0 { // a bucket is where it began
		t.Errorf("the first calls, 20 s ago, are in slot %v of 30", slot)
	}
	f.Do("GET", listPath+"/a", "").Want(200, "series.slots=30", "leases=[]")
}

func TestDetail_ShowsProbesUnderWay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.Do("POST", listPath+"/a/reset", `{"target_state":"HALF_OPEN","reason":"try"}`).Want(200)
	f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(200, `state="HALF_OPEN"`)
	f.Do("GET", listPath+"/a", "").Want(200, `leases.0.since="2026-02-11T09:00:00Z"`, `leases.0.until="2026-02-11T09:01:00Z"`, "leases.1=null")
}

func TestConfig_DryRunChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 1)
	f.Do("PUT", listPath+"/a/config?dry_run=1", `{"failure_threshold":9}`, "If-None-Match", "*").Want(200, "failure_threshold=9")
	f.Do("GET", listPath+"/a/config", "").WantProblem(404, problem.ConfigAbsent)
	f.Do("PUT", listPath+"/a/config?dry_run=1", `{"failure_threshold":-1}`).Want(422)
	f.Do("PUT", listPath+"/a/config?dry_run=1", `{"failure_threshold":9}`, "If-Match", `"other"`).WantProblem(412, problem.PreconditionFailed)
	f.Do("PUT", listPath+"/a/config?dry_run=2", `{"failure_threshold":9}`).WantProblem(422, problem.InvalidValue)
}

func TestSummary_OfAReadingThatWasMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.Do("GET", summaryPath, "").Want(200, "states.OPEN=1")
	f.fail("b", 5)
	f.Do("GET", summaryPath+"?max_age_seconds=60", "").Want(200, "states.OPEN=1")
	f.Do("POST", listPath+"/a/reset", `{"target_state":"CLOSED","reason":"x"}`).Want(200)
	f.Do("GET", summaryPath+"?max_age_seconds=60", "").Want(200, "states.OPEN=1", `oldest_open.0.agent_id="b"`, `next_probe.agent_id="b"`)
	f.Do("GET", summaryPath+"?max_age_seconds=-1", "").WantProblem(422, problem.InvalidValue)
}
