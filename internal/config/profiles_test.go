package config_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const profiles = "../../deploy/profiles/"

func profile(t *testing.T, name string) config.Config {
	t.Helper()
	c := load(t, "ENV_FILE="+profiles+name+".env")
	if len(c.Warnings) > 0 {
		t.Errorf("%s: %q", name, c.Warnings)
	}
	return c
}

func TestProfiles_GiveThePolicyOfTheirSeed(t *testing.T) {
	t.Parallel()
	stemedb, coordinator := breaker.DefaultPolicy(), breaker.DefaultPolicy()
	stemedb.FailureThreshold, stemedb.FailureRateThreshold, stemedb.MinimumCalls, stemedb.WindowSize = breaker.Off, 0.300001, 20, 5*time.Minute
	stemedb.Timeout, stemedb.TimeoutMax, stemedb.HalfOpenMaxCalls, stemedb.HalfOpenSuccessThreshold = time.Hour, time.Hour, 5, 3
	coordinator.FailureThreshold, coordinator.FailureRateThreshold, coordinator.Timeout = 5, breaker.Off, 30*time.Second
	coordinator.HalfOpenMaxCalls, coordinator.HalfOpenSuccessThreshold = 1, 1
	want := map[string]breaker.Policy{"workflow": breaker.DefaultPolicy(), "stemedb": stemedb, "coordinator": coordinator}
	for name, policy := range want {
		if got := profile(t, name).Policy; got != policy {
			t.Errorf("%s: got  %+v\nwant %+v", name, got, policy)
		}
	}
	files, err := filepath.Glob(profiles + "*.env")
	if err != nil || len(files) != len(want) {
		t.Errorf("%q, %v: want one test for each profile", files, err)
	}
}

// The profile sets the eight variables of the deployment guide, though they are the defaults.
func TestProfiles_WorkflowSetsTheEightVariables(t *testing.T) {
	t.Parallel()
	c := profile(t, "workflow")
	if c.RedisURL.Reveal() != "redis://localhost:6379/0" || c.RedisTTL != time.Hour {
		t.Errorf("got %q, %v", c.RedisURL.Reveal(), c.RedisTTL)
	}
	set := 0
	for _, origin := range c.Origins {
		if origin != policy.DefaultOrigin {
			set++
		}
	}
	if set != 6 {
		t.Errorf("%d variables of the policy are set, want 6", set)
	}
}

// The runbook says "more than 30 %", and that three probes close and three reopen. The machine counts so.
func TestProfiles_StemedbBansAboveThirtyPercent(t *testing.T) {
	t.Parallel()
	p := profile(t, "stemedb").Policy.Params(time.Hour, 0)
	for calls := p.MinimumCalls; calls <= 2000; calls++ {
		for failures := calls*3/10 - 1; failures <= calls*3/10+1; failures++ {
			if opens, should := failures*1_000_000 >= calls*p.FailureRatePPM, failures*10 > calls*3; opens != should {
				t.Fatalf("%d of %d: opens %v, want %v", failures, calls, opens, should)
			}
		}
	}
	if reopens := p.MaxCalls - p.Need + 1; p.Need != 3 || reopens != 3 {
		t.Errorf("%d close, %d reopen; want 3 and 3", p.Need, reopens)
	}
	if p.TimeoutMs != 3_600_000 || p.TimeoutMaxMs < p.TimeoutMs {
		t.Errorf("waits %d ms, at most %d ms; want an hour", p.TimeoutMs, p.TimeoutMaxMs)
	}
}
