package httpapi

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/permits"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// permitKeys is the fleet's key; "": Redis is away.
type permitKeys string

func (k permitKeys) PermitKeys(context.Context, string, time.Duration) (redisdocs.PermitKeys, error) {
	if k == "" {
		return redisdocs.PermitKeys{}, breaker.ErrStoreUnavailable
	}
	return redisdocs.PermitKeys{Current: string(k)}, nil
}

func signed(t *testing.T, keys permitKeys) func(*Options) {
	t.Helper()
	s := permits.NewSigner(keys, slog.New(slog.DiscardHandler))
	return func(o *Options) { o.Permits = s }
}

// Each verb that gives a permit signs it, and each that takes one takes no other.
func TestPermits_AreSigned(t *testing.T) {
	t.Parallel()
	f, other := newFixture(t, signed(t, "k")), newFixture(t, signed(t, "k"))
	const report, batch = "/v1/circuit_breakers/a/report", "/v1/batch"
	outcome := func(permit string) string { return `{"permit":"` + permit + `","outcome":"success"}` }
	acquired := f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(200).At("permit").(string)
	gate := f.Do("GET", "/v1/gate/a", "").Want(200).Header.Get("X-Circuit-Breaker-Permit")
	inBatch := f.Do("POST", batch, `{"operations":[{"op":"acquire","agent":"a"}]}`).Want(200).At("results.0.permit").(string)
	for _, permit := range []string{acquired, gate, inBatch} {
		if strings.Count(permit, ".") != 5 {
			t.Fatalf("%s has no signature", permit)
		}
		f.Do("POST", report, outcome(permit)).Want(200, "counted=true")
		other.Do("POST", report, outcome(permit)).Want(200, "counted=true")
		f.Do("POST", "/v1/circuit_breakers/b/report", outcome(permit)).Want(200, `why="foreign"`)
	}
	without := acquired[:strings.LastIndexByte(acquired, '.')]
	for _, bad := range []string{without, without + ".0123456789abcdef"} {
		f.Do("POST", report, outcome(bad)).WantProblem(422, problem.InvalidPermit)
		f.Do("POST", "/v1/circuit_breakers/a/renew", `{"permit":"`+bad+`"}`).WantProblem(422, problem.InvalidPermit)
		f.Do("POST", batch, `{"operations":[{"op":"report","agent":"a","permit":"`+bad+`","outcome":"success"},{"op":"renew","agent":"a","permit":"`+bad+`"}]}`).
			Want(200, `results.0.code="invalid_permit"`, `results.1.code="invalid_permit"`)
	}
	newFixture(t).Do("POST", report, outcome(acquired)).Want(200, "counted=true") // a replica that asks for no tokens
	f.fail("probed", 5)
	f.advance(time.Minute)
	probe := f.Do("POST", "/v1/circuit_breakers/probed/acquire", "").Want(200, `state="HALF_OPEN"`).At("permit").(string)
	f.Do("POST", "/v1/circuit_breakers/probed/renew", `{"permit":"`+probe+`"}`).Want(200, "lease_seconds=60")
	f.Do("POST", "/v1/circuit_breakers/probed/report", outcome(probe)).Want(200, "counted=true")
}

func TestPermits_WhileRedisIsAwayOneReplicaKnowsItsOwn(t *testing.T) {
	t.Parallel()
	f, other := newFixture(t, signed(t, "")), newFixture(t, signed(t, ""))
	permit := f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(200).At("permit").(string)
	body := `{"permit":"` + permit + `","outcome":"success"}`
	f.Do("POST", "/v1/circuit_breakers/a/report", body).Want(200, "counted=true")
	other.Do("POST", "/v1/circuit_breakers/a/report", body).WantProblem(503, problem.StoreUnavailable)
}
