package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const replicasPath = "/v1/admin/replicas"

type replicaView struct {
	ID            string  `json:"id"`
	State         string  `json:"state"          enum:"alive,suspect,gone" doc:"suspect: two heartbeats are missing. gone: five, and it did not say that it ends."`
	AgeSeconds    float64 `json:"age_seconds"    doc:"Of its last heartbeat."`
	HeartbeatMs   int64   `json:"heartbeat_ms"   doc:"When that was, by Redis' clock, ms since 1970; 0: this replica is cut off from Redis."`
	Host          string  `json:"host"`
	Program       string  `json:"program"`
	Version       string  `json:"version"`
	StartedAt     *string `json:"started_at"     format:"date-time"`
	Consistency   string  `json:"consistency"    doc:"Of agents without an override."`
	Enabled       bool    `json:"enabled"        doc:"The global switch, CIRCUIT_BREAKER_ENABLED."`
	Policy        string  `json:"policy"         doc:"A fingerprint of its defaults and its agent registry file."`
	Drifts        bool    `json:"drifts"         doc:"Its policy is not that of most replicas."`
	Gate          string  `json:"gate"           doc:"The version of the fleet's gate that it obeys."`
	DegradedSince *string `json:"degraded_since" format:"date-time"`
	Waiting       waiting `json:"waiting"        doc:"Outcomes that it has not sent to Redis yet."`
	RoundTripMs   trips   `json:"round_trip_ms"  doc:"Of its newest calls of Redis, at most 1,024."`
	LastError     *string `json:"last_error"     doc:"Of Redis."`
	LastErrorAt   *string `json:"last_error_at"  format:"date-time"`

	Store        string            `json:"store"        doc:"Stands for the data of the Redis that it sees; another text: another Redis, or one that has lost its data."`
	Listen       []string          `json:"listen"       doc:"Where it listens, as it was told to." nullable:"false"`
	Labels       map[string]string `json:"labels"       doc:"REPLICA_LABELS." nullable:"false"`
	CPU          cpuView           `json:"cpu"`
	Memory       memoryView        `json:"memory"       doc:"Of its Go runtime."`
	Goroutines   int               `json:"goroutines"`
	Agents       int               `json:"agents"       doc:"That it tracks."`
	Certificates []certificateView `json:"certificates" doc:"That it has loaded, 16 at most." nullable:"false"`
}

type cpuView struct {
	Share float64 `json:"share" doc:"In use between its last two heartbeats, of all that it may use, from 0 to 1."`
	Cores int     `json:"cores" doc:"That it may use at once."`
}

type memoryView struct {
	UsedBytes  int64 `json:"used_bytes"`
	LimitBytes int64 `json:"limit_bytes" doc:"GOMEMLIMIT, by default nine tenths of the container's limit; 0: none."`
}

type certificateView struct {
	Role     string  `json:"role"      enum:"listen,listen_ca,redis,redis_ca" doc:"listen: its listeners show it. redis: it shows it to Redis. _ca: of an authority that it trusts there."`
	Subject  string  `json:"subject"`
	NotAfter *string `json:"not_after" format:"date-time"`
}

type waiting struct {
	Outcomes   int64   `json:"outcomes"`
	Agents     int     `json:"agents"`
	AgeSeconds float64 `json:"age_seconds"`
}

type trips struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

type replicasReply struct {
	Replicas []replicaView `json:"replicas" nullable:"false" doc:"By name. One that ended in order is not there."`
	NowMs    int64         `json:"now_ms"   doc:"This replica's clock."`
	Self     string        `json:"self"     doc:"The replica that answers. What it says of itself is as of now."`
	Degraded bool          `json:"degraded" doc:"The answering replica is cut off from Redis: replicas has itself alone, from its memory."`
}

func (a *api) replicasRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET " + replicasPath, ID: "listReplicas", Role: access.Read, Tag: "fleet",
		Summary: "Every replica, by its heartbeat; of a replica that is cut off from Redis, itself",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.InvalidValue},
	}, a.replicas)
}

// heardReplicas lists the replicas. degraded: Redis is down for this one, which is all that it knows of.
func (a *api) heardReplicas(ctx context.Context) (heard []redisdocs.Heard, degraded bool, err error) {
	self := a.Fleet.Self()
	heard, err = a.Fleet.Replicas(ctx)
	if errors.Is(err, breaker.ErrStoreUnavailable) {
		return []redisdocs.Heard{self}, true, nil
	}
	for i := range heard {
		if heard[i].ID == self.ID {
			heard[i].ReplicaReport = self.ReplicaReport
		}
	}
	return heard, false, err
}

func (a *api) replicas(r *route.Request, _ route.None) (out replicasReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	heard, degraded, err := a.heardReplicas(r.Context())
	if err != nil {
		return out, err
	}
	out = replicasReply{
		Replicas: []replicaView{}, NowMs: time.Now().UnixMilli(), Self: a.Fleet.Self().ID, Degraded: degraded,
	}
	common := commonPolicy(heard)
	for i := range heard {
		out.Replicas = append(out.Replicas, viewReplica(&heard[i], common))
	}
	return out, nil
}

// viewReplica shows a replica. common is the policy of most.
func viewReplica(h *redisdocs.Heard, common string) replicaView {
	v := replicaView{
		ID: h.ID, State: h.State(), AgeSeconds: h.Age.Round(time.Millisecond).Seconds(), HeartbeatMs: h.BeatMs,
		Host: h.Host, Program: h.Program, Version: h.Version, StartedAt: view.Stamp(h.StartedMs),
		Consistency: h.Consistency, Enabled: h.Enabled, Policy: h.Policy, Drifts: h.Policy != common, Gate: h.Gate,
		DegradedSince: view.Stamp(h.DegradedMs), Waiting: waiting{h.Waiting, h.WaitingAgents, h.WaitingAge},
		RoundTripMs: trips{h.RoundTripP50, h.RoundTripP99}, LastError: view.TextOrNull(h.LastError),
		LastErrorAt: view.Stamp(h.LastErrorMs), Store: h.Born, Listen: h.Listen, Labels: h.Labels,
		CPU: cpuView{h.CPU, h.CPUs}, Memory: memoryView{h.MemoryBytes, h.MemoryLimit}, Goroutines: h.Goroutines,
		Agents: h.Agents, Certificates: []certificateView{},
	}
	if v.Listen == nil { // a Go program, or a replica of an older version
		v.Listen = []string{}
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	for _, c := range h.Certificates {
		v.Certificates = append(v.Certificates, certificateView{c.Role, c.Subject, view.Stamp(c.NotAfterMs)})
	}
	return v
}

// commonPolicy is the fingerprint that most replicas have.
func commonPolicy(heard []redisdocs.Heard) string {
	return commonOf(heard, func(h *redisdocs.Heard) string { return h.Policy })
}

// commonOf is what most replicas say that say anything; of equals the least.
func commonOf(heard []redisdocs.Heard, said func(*redisdocs.Heard) string) (common string) {
	n := map[string]int{}
	for i := range heard {
		if text := said(&heard[i]); text != "" && heard[i].State() != redisdocs.Gone {
			n[text]++
		}
	}
	for text, count := range n {
		if count > n[common] || count == n[common] && text < common {
			common = text
		}
	}
	return common
}
