package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/pkg/client"
)

const (
	healthy    = "healthy"
	aliveState = "alive"
)

// servers says which servers answer.
func (j *judge) servers() (Finding, bool) {
	var silent []string
	for _, s := range j.Servers {
		if s.Health.Err != nil {
			silent = append(silent, fmt.Sprintf("%s: %v", s.Address, s.Health.Err))
		}
	}
	if len(silent) > 0 {
		return Finding{Status: Unknown, Evidence: "not known of " + strings.Join(silent, "; ")}, true
	}
	return finef("%d of %d answer", len(j.Servers), len(j.Servers))
}

// globalSwitch asks each server, and what every replica says of itself.
func (j *judge) globalSwitch() (Finding, bool) {
	const means = "it admits every call and records none, until CIRCUIT_BREAKER_ENABLED=true and a restart"
	for _, s := range j.Servers {
		if c := s.Health.Value.Checks["global_switch"]; s.Health.known() && c.Status != "" && c.Status != healthy {
			return faultf(j.check(s.Address, "global_switch"), "off on replica %s, %s: %s",
				s.Health.Value.ReplicaID, j.since(c.Since), means)
		}
	}
	if !j.Replicas.known() {
		return j.noReplicas()
	}
	off := j.replicasThat(func(r client.Replica) bool { return r.State == aliveState && !r.Enabled })
	if len(off) > 0 {
		return faultf(j.says(off[0]), "off on replica %s: %s", named(off, len(off)), means)
	}
	return finef("on everywhere")
}

func (j *judge) noReplicas() (Finding, bool) {
	if !j.Replicas.Asked {
		return none()
	}
	return unknown(j.Replicas.Err)
}

// says is the command that shows what a replica says of itself, by a server that answers.
func (j *judge) says(id string) string {
	for _, s := range j.Servers {
		if s.Health.known() {
			return j.replica(s.Address, id)
		}
	}
	return j.ctl("doctor")
}

// replicasThat names replicas.
func (j *judge) replicasThat(are func(client.Replica) bool) (names []string) {
	for _, r := range j.Replicas.Value.Replicas {
		if are(r) {
			names = append(names, r.ID)
		}
	}
	return names
}

// component is a check of a server's health that has one of these codes.
func (j *judge) component(name string, codes ...string) (s *Server, c client.Check) {
	for i := range j.Servers {
		c := j.Servers[i].Health.Value.Checks[name]
		if j.Servers[i].Health.known() && slices.Contains(codes, c.Code) {
			return &j.Servers[i], c
		}
	}
	return nil, c
}

// toldBySome is fine, if a server has told of itself, and else not known.
func (j *judge) toldBySome(format string, args ...any) (Finding, bool) {
	for _, s := range j.Servers {
		if s.Health.known() {
			return finef(format, args...)
		}
	}
	if len(j.Servers) == 0 {
		return none()
	}
	return unknown(j.Servers[0].Health.Err)
}

func (j *judge) storeAway() (Finding, bool) {
	if s, c := j.component("redis", "unreachable"); s != nil {
		waiting := ""
		if c.Unsent != nil {
			waiting = fmt.Sprintf("; %d outcomes wait for it", c.Unsent.Outcomes)
		}
		return faultf(j.redis(c.Server, "PING"), "replica %s has no answer of %s %s: %s%s",
			s.Health.Value.ReplicaID, c.Server, j.since(c.Since), c.Detail, waiting)
	}
	return j.toldBySome("%s", j.storeTrip())
}

// storeTrip says how long Redis took to answer.
func (j *judge) storeTrip() string {
	var told []string
	for _, s := range j.Servers {
		if c, ok := s.Health.Value.Checks["redis"]; ok {
			told = append(told, fmt.Sprintf("%s in %.1f ms", c.Server, c.LatencyMs))
		}
	}
	return "answers: " + strings.Join(told, ", ")
}

func (j *judge) storeAnswers() (Finding, bool) {
	if s, c := j.component("redis", "wrong_answer"); s != nil {
		return faultf(j.redis(c.Server, "PING"), "replica %s gets a wrong answer of %s %s: %s",
			s.Health.Value.ReplicaID, c.Server, j.since(c.Since), c.Detail)
	}
	for _, s := range j.Servers {
		if c := s.Health.Value.Checks["scripts"]; c.Status != "" && c.Status != healthy {
			of := s.Health.Value.Checks["redis"].Server
			return faultf(j.redis(of, "ACL LOG 5"), "replica %s: %s %s", s.Health.Value.ReplicaID, c.Detail, j.since(c.Since))
		}
	}
	return j.toldBySome("rightly")
}

func (j *judge) storeData() (Finding, bool) {
	if s, c := j.component("redis_data", "lost", "put_back"); s != nil {
		text := c.Detail
		if len(c.Warnings) > 0 {
			text = strings.Join(c.Warnings, "; ")
		}
		return faultf(j.ctl("events --since 1h --kind store_reset"),
			"%s. Breakers are closed; holds that were not protected, overrides and profiles are gone", text)
	}
	return j.toldBySome("kept")
}

func (j *judge) storeEviction() (Finding, bool) {
	if s, c := j.component("redis_memory", "evicts"); s != nil {
		return faultf(j.redis(c.Server, "CONFIG SET maxmemory-policy noeviction"), "%s, %s", c.Detail, j.since(c.Since))
	}
	return j.toldBySome("it evicts nothing")
}

func (j *judge) storeMemory() (Finding, bool) {
	if s, c := j.component("redis_memory", "full", "filling"); s != nil {
		return faultf(j.redis(c.Server, "INFO memory"), "%s, %s: %s", c.Detail, j.since(c.Since), c.Advice)
	}
	for _, s := range j.Servers {
		if c, ok := s.Health.Value.Checks["redis_memory"]; ok {
			return j.toldBySome("%s", c.Detail)
		}
	}
	return j.toldBySome("nothing to judge")
}

func (j *judge) replicasDegraded() (Finding, bool) {
	for _, r := range j.Replicas.Value.Replicas {
		if r.State == aliveState && !r.DegradedSince.IsZero() {
			return faultf(j.says(r.ID), "replica %s on %s answers from its own memory %s, %d outcomes wait: %s",
				r.ID, r.Host, j.since(r.DegradedSince), r.Waiting.Outcomes, orNothing(r.LastError))
		}
	}
	for _, s := range j.Servers {
		if c := s.Health.Value.Checks["redis"]; s.Health.known() && c.Degraded {
			return faultf(j.check(s.Address, "redis"), "replica %s answers from its own memory %s: %s",
				s.Health.Value.ReplicaID, j.since(c.Since), c.Detail)
		}
	}
	if !j.Replicas.known() {
		return j.noReplicas()
	}
	return finef("none of %d", len(j.Replicas.Value.Replicas))
}

func orNothing(text string) string {
	if text == "" {
		return "no error is known"
	}
	return text
}

func (j *judge) replicasMissing() (Finding, bool) {
	if !j.Replicas.known() {
		return j.noReplicas()
	}
	long := 0
	for _, r := range j.Replicas.Value.Replicas {
		switch {
		case r.State == aliveState:
		case r.AgeSeconds < missingFor.Seconds():
			return faultf(j.says(r.ID), "replica %s on %s was last heard %.0f s ago, and did not say that it ends",
				r.ID, r.Host, r.AgeSeconds)
		default:
			long++
		}
	}
	if long > 0 {
		return finef("none within ten minutes; %d within the hour", long)
	}
	return finef("none of %d", len(j.Replicas.Value.Replicas))
}

func (j *judge) replicasPolicy() (Finding, bool) {
	if !j.Replicas.known() {
		return j.noReplicas()
	}
	drift := j.replicasThat(func(r client.Replica) bool { return r.State == aliveState && r.Drifts })
	if len(drift) > 0 {
		return faultf(j.says(drift[0]), "replica %s has other defaults, or another AGENTS_FILE, than most: "+
			"give all the same environment and file, and restart", named(drift, len(drift)))
	}
	return finef("the same on all")
}

func (j *judge) gate() (Finding, bool) {
	g := j.Gate.Value
	switch {
	case !j.Gate.known():
		if !j.Gate.Asked {
			return none()
		}
		return unknown(j.Gate.Err)
	case g.Action != "" && g.Action != "none":
		return faultf(j.ctl("resume --reason 'the reason is gone'"), "%s: %g of all calls are admitted, by %s %s, %s: %q",
			g.Action, g.Share, whom(g.Actor), j.since(g.StartedAt), j.until(g.Until), g.Reason)
	case g.Problem != "":
		return faultf(j.ctl("resume --reason 'not understood'"), "a hand wrote what was not understood: %s", g.Problem)
	}
	return finef("none")
}

// elsewhere are the checks of a server's health that other checks judge.
func elsewhere() []string {
	return []string{
		"redis", "redis_data", "redis_memory", "scripts", "replicas", "fleet_gate", "holds", "overrides", "global_switch",
	}
}

// health takes over what the servers find wrong beside all that.
func (j *judge) health() (Finding, bool) {
	for _, s := range j.Servers {
		names := make([]string, 0, len(s.Health.Value.Checks))
		for name, c := range s.Health.Value.Checks {
			if c.Status != healthy && !slices.Contains(elsewhere(), name) &&
				!strings.HasPrefix(c.Detail, "not known: ") { // of Redis, which the checks above judge
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if len(names) > 0 {
			c := s.Health.Value.Checks[names[0]]
			return faultf(j.check(s.Address, names[0]), "%s of replica %s, %s: %s (%s)",
				names[0], s.Health.Value.ReplicaID, j.since(c.Since), c.Detail, c.Advice)
		}
	}
	return j.toldBySome("the rest is healthy")
}
