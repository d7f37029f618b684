package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// names lists a page as "name:STATE".
func names(g routetest.Got) string {
	var out []string
	list, _ := g.JSON["circuit_breakers"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		out = append(out, fmt.Sprint(m["agent_id"], ":", m["state"]))
	}
	return strings.Join(out, " ")
}

func TestList_HasBreakersThatAreNotClosedFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, a := range []string{"a1", "a2", "b1", "b2"} {
		f.fail(a, 1)
	}
	f.fail("b2", 4)
	f.advance(90 * time.Second)
	f.fail("a2", 5)
	for query, want := range map[string]string{
		"":                           "a2:OPEN b2:HALF_OPEN a1:CLOSED b1:CLOSED",
		"?sort=agent_id":             "a1:CLOSED a2:OPEN b1:CLOSED b2:HALF_OPEN",
		"?state=OPEN":                "a2:OPEN",
		"?state=half_open":           "b2:HALF_OPEN",
		"?state=CLOSED&q=B":          "b1:CLOSED",
		"?q=zz":                      "",
		"?limit=2&sort=state":        "a2:OPEN b2:HALF_OPEN",
		"?state=CLOSED&limit=2&q=1":  "a1:CLOSED b1:CLOSED",
		"?state=CLOSED&limit=1":      "a1:CLOSED",
		"?limit=1000&sort=agent_id&": "a1:CLOSED a2:OPEN b1:CLOSED b2:HALF_OPEN",
	} {
		if have := names(f.Do("GET", "/v1/admin/circuit_breakers"+query, "").Want(200)); have != want {
			t.Errorf("%s: %q, want %q", query, have, want)
		}
	}
}

func TestList_PagesCoverEverythingOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var want []string
	for i := range 150 {
		name := fmt.Sprintf("agent-%03d", i)
		f.fail(name, 1)
		want = append(want, name+":CLOSED")
	}
	for _, sort := range []string{"state", "agent_id"} {
		var have []string
		for cursor := ""; ; {
			g := f.Do("GET", "/v1/admin/circuit_breakers?limit=7&sort="+sort+"&cursor="+cursor, "").Want(200)
			have = append(have, strings.Fields(names(g))...)
			next, ok := g.JSON["next_cursor"].(string)
			if !ok {
				break
			}
			cursor = next
		}
		if strings.Join(have, " ") != strings.Join(want, " ") {
			t.Errorf("by %s: %v", sort, have)
		}
	}
}

func TestList_RefusesBadQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, q := range []string{
		"state=ajar", "sort=color", "limit=0", "limit=-1", "limit=1001", "limit=1e3", "limit=9999999999999999999", "cursor=x", "cursor=%00",
		"cursor=c3RhdGUgMCA", "nonsense=1", "limit=1&limit=2", "q=" + strings.Repeat("q", 129), "a=%zz", "a;b",
	} {
		f.Do("GET", "/v1/admin/circuit_breakers?"+q, "").WantProblem(422, problem.InvalidValue)
	}
}

func TestList_ShowsOverridesAndWhenAgentsWereSeen(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	f.Do("PUT", listPath+"/tripped/config", `{"mode":"observe","_reason":"load test","_until":"`+until+`"}`, "X-Actor", "alice").Want(201)
	if err := f.records.Put(overrides, "banned", `{"failure_threshold":3,"_until":"2026-01-01T00:00:00Z"}`); err != nil { // it has ended
		t.Fatal(err)
	}
	const at, first = listPath + "?sort=agent_id&include=override,seen&q=", "circuit_breakers.0.override"
	f.Do("GET", at+"tripped&limit=1", "").Want(200, first+`.by="alice"`, first+`.reason="load test"`, first+`.until="`+until+`"`,
		first+".ended=false", first+".problem=null", fmt.Sprintf("circuit_breakers.0.last_seen=%q", time.UnixMilli(f.records.NowMs.Load()).UTC().Format(time.RFC3339)))
	f.Do("GET", at+"banned", "").Want(200, first+".ended=true", first+".by=null", first+".at=null")
	if g := f.Do("GET", at+"calm", "").Want(200, first+".until=null", "circuit_breakers.1.override=null"); g.At(first+".problem") == nil {
		t.Error(g.Text)
	}
	f.Do("GET", listPath+"?q=tripped", "").Want(200, first+"=null", "circuit_breakers.0.last_seen=null")
}
