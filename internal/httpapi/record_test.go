package httpapi

import (
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestConfig_SaysWhoSetItAndEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const path = "/v1/admin/circuit_breakers/a/config"
	body := `{"failure_threshold":9,"_reason":"load test","_until":"2999-01-01T00:00:00Z","_by":"mallory"}`
	f.Do("PUT", path, body, "X-Actor", "alice").Want(201, `_by="alice"`, `_reason="load test"`, `failure_threshold=9`)
	g := f.Do("GET", path, "").Want(200, `_by="alice"`, `_until="2999-01-01T00:00:00Z"`)
	f.Do("PUT", path, g.Text, "X-Actor", "bob", "If-Match", "*").Want(200, `_by="bob"`, `_reason="load test"`)
	for _, bad := range []string{`{"_until":"2001-01-01T00:00:00Z"}`, `{"_until":5}`, `{"_reason":"a\nb"}`, `{"_nonsense":1}`} {
		f.Do("PUT", path, bad, "If-Match", "*").WantProblem(422, problem.InvalidValue)
	}
	if err := f.records.Put(overrides, "a", `{"failure_threshold":9,"_until":"2001-01-01T00:00:00Z"}`); err != nil {
		t.Fatal(err)
	}
	f.Do("GET", path, "").Want(200, `_ended=true`)
}
