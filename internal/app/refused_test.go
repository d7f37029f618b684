package app

import (
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// TestOverview_AgentThatRedisRefusesIsAlone: an ACL denies the keys of one agent. The list and the summary show all
// others, and that one by what this replica knows.
func TestOverview_AgentThatRedisRefusesIsAlone(t *testing.T) {
	t.Parallel()
	w := newWhole(t, testkit.Start(t).URL(), false)
	for _, agent := range []string{"a", "denied", "z"} {
		w.Do("POST", listPath+"/"+agent+"/open", `{"reason":"x"}`).Want(200)
	}
	acl := []any{"ACL", "SETUSER", "default", "resetkeys", "~circuit_breaker:[^d]*", "~circuit_breaker:definitions*"}
	if err := w.Conn.Client.Do(t.Context(), acl...).Err(); err != nil {
		t.Fatal(err)
	}
	w.Do("GET", listPath+"?sort=agent_id", "").Want(200, "total=3", `circuit_breakers.0.agent_id="a"`,
		`circuit_breakers.1.agent_id="denied"`, "circuit_breakers.1.degraded=true", `circuit_breakers.2.agent_id="z"`)
	w.Do("GET", listPath+"?include=profile,window&override=none", "").Want(200, "total=2")
	w.Do("GET", summaryPath, "").Want(200, "agents=3", "invalid_overrides.count=1", "states.OPEN=3",
		"unreadable.count=1", `unreadable.names.0="denied"`)
}
