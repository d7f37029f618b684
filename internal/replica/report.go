package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/text"
)

// maxSaid bounds an error in what a replica says of itself.
const maxSaid = 200

// report is what this replica says of itself.
func (r *Replica) report() redisdocs.ReplicaReport {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	waiting := r.Manager.Backlog()
	out := redisdocs.ReplicaReport{
		Host: host, Program: r.o.Program, Version: r.o.Version, StartedMs: r.started.UnixMilli(),
		Consistency: string(r.o.Policy.Consistency), Enabled: !r.o.Policy.Disabled, Policy: r.fingerprint(),
		Gate: r.gate.version(), Waiting: waiting.Outcomes, WaitingAgents: waiting.Agents,
		WaitingAge: waiting.Oldest.Seconds(),
	}
	p50, p99 := r.storeCalls.percentiles()
	out.RoundTripP50, out.RoundTripP99 = milliseconds(p50), milliseconds(p99)
	if since := r.downSince.Load(); since != nil && r.Fallback.Degraded() {
		out.DegradedMs = since.UnixMilli()
	}
	if err, at := r.storeCalls.lastError(); err != "" {
		out.LastError, out.LastErrorMs = text.Clip(err, maxSaid), at.UnixMilli()
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// fingerprint is another text for other defaults, and for another agent registry file.
func (r *Replica) fingerprint() string {
	h := sha256.New()
	for _, f := range policy.Fields(r.o.Policy) {
		_, _ = fmt.Fprintln(h, f.Name, f.Value)
	}
	_, _ = fmt.Fprintln(h, r.o.KeyPrefix, r.o.RedisTTL, r.Registry.Status().Digest)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// tell tells the others at once what this replica says of itself; the heartbeat does so again.
func (r *Replica) tell(ctx context.Context) {
	if err := r.Docs.Report(ctx, r.ID, r.report()); err != nil {
		r.log.Debug("not told", "error", err)
	}
}

// announce tells the others what becomes of this replica.
func (r *Replica) announce(ctx context.Context, kind string) {
	text := r.ID + " " + r.o.Program + " " + r.o.Version
	if err := r.Store.Announce(ctx, kind, "-", text, false); err != nil {
		r.log.Debug("not announced", "kind", kind, "error", err)
	}
}
