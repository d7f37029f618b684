package replica

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/text"
)

const (
	// maxSaid bounds an error in what a replica says of itself.
	maxSaid = 200
	// maxSubject bounds the subject of a certificate, maxCertificates how many are told of.
	maxSubject, maxCertificates = 128, 16
	// maxListen bounds the address of a listener.
	maxListen = 256
)

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
	r.reportProcess(&out)
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// reportProcess adds what the process is, and uses.
func (r *Replica) reportProcess(out *redisdocs.ReplicaReport) {
	out.Labels, out.Agents, out.Born = r.o.ReplicaLabels, r.Manager.Tracked(), r.watch.seen()
	for _, l := range r.o.Listen {
		out.Listen = append(out.Listen, text.Clip(l, maxListen))
	}
	out.CPU, out.CPUs = r.usage.share(), runtime.GOMAXPROCS(0)
	out.MemoryBytes, out.MemoryLimit, out.Goroutines = memoryUse(), memoryLimit(), runtime.NumGoroutine()
	if r.o.Certificates != nil {
		own, authorities := r.o.Certificates()
		out.Certificates = certificates(out.Certificates, redisdocs.CertListen, own, authorities)
	}
	own, authorities := r.Conn.Certificates()
	out.Certificates = certificates(out.Certificates, redisdocs.CertRedis, own, authorities)
}

// certificates adds those of one end of a connection to others. Of too many those stay that end first.
func certificates(
	all []redisdocs.Certificate, role string, own *x509.Certificate, authorities []*x509.Certificate,
) []redisdocs.Certificate {
	add := func(role string, c *x509.Certificate) {
		subject := text.Line(c.Subject.String(), maxSubject)
		all = append(all, redisdocs.Certificate{Role: role, Subject: subject, NotAfterMs: c.NotAfter.UnixMilli()})
	}
	if own != nil {
		add(role, own)
	}
	for _, c := range authorities {
		add(role+redisdocs.CertAuthority, c)
	}
	if len(all) > maxCertificates {
		slices.SortStableFunc(all, func(a, b redisdocs.Certificate) int { return cmp.Compare(a.NotAfterMs, b.NotAfterMs) })
		all = all[:maxCertificates]
	}
	return all
}

// Self is this replica as its next heartbeat says.
func (r *Replica) Self() redisdocs.Heard {
	return redisdocs.Heard{ReplicaReport: r.report(), ID: r.ID}
}

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
	r.saying.Lock()
	defer r.saying.Unlock()
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
