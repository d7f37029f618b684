package httpapi

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAdmin_RunbooksCommandsWorkToTheLetter runs the commands of circuit-breaker-stuck.md with curl and jq; only the
// port differs.
func TestAdmin_RunbooksCommandsWorkToTheLetter(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(tool + " is missing: apt-get install " + tool)
		}
	}
	f := newFixture(t)
	agent := "8f3a2b1c..."
	f.Do("POST", "/v1/admin/circuit_breakers/"+agent+"/open", `{"reason":"flooding_quarantine","timeout_seconds":3600,"protected":true}`).Want(200)
	f.Do("PUT", "/v1/admin/agents/"+agent, `{"contact":"ops@example.org"}`).Want(201)
	f.Do("GET", "/v1/admin/circuit_breakers/"+agent, "").Want(200)
	f.records.items[agent] = []string{`{"error":"duplicate"}`}
	f.fail("Fine", 1)
	for _, step := range [][2]string{
		{
			`curl http://localhost:18180/v1/admin/circuit_breakers | jq '.circuit_breakers[] | select(.state=="OPEN")' | jq -c '[.agent_id,.state,.opened_at,.reason,.failure_count,.timeout_until]'`,
			`["8f3a2b1c...","OPEN","2026-02-11T09:00:00Z","flooding_quarantine",0,"2026-02-11T10:00:00Z"]`,
		},
		{`curl http://localhost:18180/v1/admin/circuit_breakers | jq '.circuit_breakers[] | select(.state == "OPEN") | {agent_id, timeout_until, now: (now | todate)}' | jq -c .timeout_until`, `"2026-02-11T10:00:00Z"`},
		{`curl http://localhost:18180/v1/admin/circuit_breakers | jq '.circuit_breakers[] | select(.state != "CLOSED")' | jq -c '.timeout_until|fromdate'`, `1770804000`},
		{`curl http://localhost:18180/v1/admin/circuit_breakers/$AGENT_ID | jq '{reason, failure_count, failure_rate}' | jq -c`, `{"reason":"flooding_quarantine","failure_count":0,"failure_rate":0}`},
		{`curl http://localhost:18180/v1/admin/quarantine?agent_id=$AGENT_ID | jq '.items[0:5]' | jq -c`, `[{"error":"duplicate"}]`},
		{`curl http://localhost:18180/v1/admin/agents/$AGENT_ID | jq '.contact'`, `"ops@example.org"`},
		{`curl -X POST http://localhost:18180/v1/admin/circuit_breakers/$AGENT_ID/reset \
  -H "Content-Type: application/json" \
  -d '{"target_state": "HALF_OPEN", "reason": "issue_resolved"}' | jq .code`, `"hold_protected"`},
		{`curl -X POST http://localhost:18180/v1/admin/circuit_breakers/$AGENT_ID/reset \
  -H "Content-Type: application/json" \
  -d '{"target_state": "HALF_OPEN", "reason": "timeout_expired", "force": true}' | jq -c .`, `{"status":"reset","agent_id":"8f3a2b1c...","state":"HALF_OPEN"}`},
		{`curl -s http://localhost:18180/v1/admin/circuit_breakers/$AGENT_ID | jq .state`, `"HALF_OPEN"`},
		{`curl -X POST http://localhost:18180/v1/admin/circuit_breakers/$AGENT_ID/reset \
  -H "Content-Type: application/json" \
  -d '{"target_state": "CLOSED", "reason": "false_positive"}' | jq -c .`, `{"status":"reset","agent_id":"8f3a2b1c...","state":"CLOSED"}`},
		{`curl http://localhost:18180/v1/admin/circuit_breakers/$AGENT_ID | jq '.state'`, `"CLOSED"`},
		{`curl http://localhost:18180/metrics | grep up`, `up 1`},
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", strings.ReplaceAll(step[0], "http://localhost:18180", f.URL))
		cmd.Env = append(cmd.Environ(), "AGENT_ID="+agent, "no_proxy=*")
		out, err := cmd.Output()
		if err != nil || strings.TrimSpace(string(out)) != step[1] {
			t.Errorf("%s\n printed %s (%v)\n want    %s", step[0], out, err, step[1])
		}
	}
}
