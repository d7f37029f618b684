package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/test/runbook"
)

// playDocument runs a document's commands against breakerd with a profile, on the ports that the document names.
func playDocument(t *testing.T, script, profile string) {
	t.Helper()
	ns := newNamespace(t)
	ns.redis(t)
	file, err := filepath.Abs("../../deploy/profiles/" + profile)
	if err != nil {
		t.Fatal(err)
	}
	d := launch(t, ns.enter, "BREAKERD_LISTEN=", "REDIS_URL=redis://localhost:6379/0", "ENV_FILE="+file)
	d.awaitListening()
	if d.addr != "127.0.0.1:18180" {
		t.Fatalf("breakerd listens on %s by default", d.addr)
	}
	need(t, "bash", "curl", "jq", "redis-cli", "grep")
	session := runbook.Session{Enter: ns.enter, Within: 10 * time.Second, Environ: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LOG=" + d.StderrFile, "AGENT_SIGNATURE=none", "LC_ALL=C.UTF-8",
	}}
	session.Play(t, runbook.Parse(t, script))
}

func TestRunbook_StuckBreakerWorksWordForWord(t *testing.T) {
	t.Parallel()
	playDocument(t, "circuit-breaker-stuck.txt", "stemedb.env")
}

func TestRunbook_DeploymentGuideWorksWordForWord(t *testing.T) {
	t.Parallel()
	playDocument(t, "deployment-guide.txt", "workflow.env")
}

// TestRunbook_WhatIsLeftOutIsKnown lists the commands that are not run. Whoever leaves out another must add it here.
func TestRunbook_WhatIsLeftOutIsKnown(t *testing.T) {
	t.Parallel()
	want := []string{
		`curl .../admin/circuit_breakers | jq '.circuit_breakers[] | select(.state=="OPEN")'`,
		`curl -X POST http://localhost:18180/v1/assert \`,
		`curl http://localhost:18180/metrics | grep "stemedb_ingest_rejected_total.*$AGENT_ID"`,
		`curl http://localhost:18180/v1/query \`,
		`export STEMEDB_CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD=2 # Lower from 3 to 2`,
		`sudo systemctl restart stemedb-api`,
		`curl -X POST http://localhost:18180/v1/assert \`,
		`curl http://localhost:18180/metrics | grep "stemedb_requests_rejected_total.*circuit_breaker.*$AGENT_ID"`,
		`CIRCUIT_BREAKER_TIMEOUT_SECONDS=30`,
	}
	var got []string
	run := 0
	for _, script := range []string{"circuit-breaker-stuck.txt", "deployment-guide.txt"} {
		for _, st := range runbook.Parse(t, script) {
			switch {
			case !st.Doc:
			case st.LeftOut != "":
				first, _, _ := strings.Cut(st.Command, "\n")
				got = append(got, first)
			default:
				run++
				if !st.Checked() && !st.Sets() {
					t.Errorf("%s:%d: nothing is wanted of %s", script, st.Line, st.Command)
				}
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("left out:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if run != 36 {
		t.Errorf("%d commands of the documents are run, want 36", run)
	}
}
