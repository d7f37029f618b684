package redisdocs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	// forgetReplicas is the age at which the heartbeat of a replica that died is deleted.
	forgetReplicas = 24 * time.Hour
	// saidFor is how long what a replica has said of itself is kept: somebody may look why it died.
	saidFor = time.Hour
)

// ReplicaReport is what a replica says of itself with its heartbeat.
type ReplicaReport struct {
	Host        string `json:"host"`
	Program     string `json:"program"`
	Version     string `json:"version"`
	StartedMs   int64  `json:"started_ms"`
	Consistency string `json:"consistency"` // of agents without an override
	Enabled     bool   `json:"enabled"`     // the global switch
	Policy      string `json:"policy"`      // a fingerprint: other defaults or another registry file have another one
	Gate        string `json:"gate"`        // the version that it obeys; "": none

	DegradedMs    int64   `json:"degraded_since_ms,omitempty"` // 0: it is not
	Waiting       int64   `json:"waiting_outcomes,omitempty"`
	WaitingAgents int     `json:"waiting_agents,omitempty"`
	WaitingAge    float64 `json:"waiting_age_seconds,omitempty"`

	RoundTripP50 float64 `json:"round_trip_p50_ms"` // of the newest calls of the store, those in vain included
	RoundTripP99 float64 `json:"round_trip_p99_ms"`
	LastError    string  `json:"last_error,omitempty"` // of the store
	LastErrorMs  int64   `json:"last_error_ms,omitempty"`

	Born         string            `json:"born,omitempty"` // stands for the identity of the data that it sees
	Listen       []string          `json:"listen,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	CPU          float64           `json:"cpu"`  // share of CPUs in use since the report before, of 1
	CPUs         int               `json:"cpus"` // that it may use at once
	MemoryBytes  int64             `json:"memory_bytes"`
	MemoryLimit  int64             `json:"memory_limit,omitempty"` // GOMEMLIMIT; 0: none
	Goroutines   int               `json:"goroutines"`
	Agents       int               `json:"agents"` // that it tracks
	Certificates []Certificate     `json:"certificates,omitempty"`
}

// Certificate is one that a replica has loaded.
type Certificate struct {
	Role       string `json:"role"` // one of the constants Cert…, an authority's with CertAuthority behind it
	Subject    string `json:"subject"`
	NotAfterMs int64  `json:"not_after_ms"`
}

// What a certificate is for.
const (
	CertListen    = "listen" // it is shown by the listeners; its authorities sign those of clients
	CertRedis     = "redis"  // it is shown to Redis; its authorities sign that of Redis
	CertAuthority = "_ca"
)

// Heartbeat says that a replica is up, and what it says of itself, and counts the replicas whose last heartbeat is at
// most so old, by the server's clock. ms is that clock.
func (d *Docs) Heartbeat(
	ctx context.Context, replica string, alive time.Duration, said ReplicaReport,
) (up int, ms int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return 0, 0, redisstore.WrapError("heartbeat", "", err)
	}
	text, err := json.Marshal(said)
	if err != nil {
		return 0, 0, err
	}
	score := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	pipe := d.client.Pipeline()
	pipe.Set(ctx, d.keys.Replica(replica), text, saidFor)
	pipe.ZAdd(ctx, d.keys.Replicas(), redis.Z{Score: float64(now.UnixMilli()), Member: replica})
	pipe.ZRemRangeByScore(ctx, d.keys.Replicas(), "-inf", score(now.Add(-forgetReplicas)))
	n := pipe.ZCount(ctx, d.keys.Replicas(), score(now.Add(-alive)), "+inf")
	_, err = pipe.Exec(ctx)
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // planted: it makes room for the next heartbeat [B20]
		_ = d.client.Unlink(ctx, d.keys.Replicas()).Err()
	}
	if err != nil {
		return 0, 0, redisstore.WrapError("heartbeat", "", err)
	}
	return int(n.Val()), now.UnixMilli(), nil
}

// Report replaces what a replica says of itself, between two heartbeats.
func (d *Docs) Report(ctx context.Context, replica string, said ReplicaReport) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	text, err := json.Marshal(said)
	if err != nil {
		return err
	}
	return failed("heartbeat", "", d.client.Set(ctx, d.keys.Replica(replica), text, saidFor).Err())
}

// Heard is a replica as the others hear of it.
type Heard struct {
	ReplicaReport

	ID     string
	BeatMs int64         // when its last heartbeat was, by Redis' clock
	Age    time.Duration // of that
}

// The states of a replica. One that ended in order has none.
const (
	Alive   = "alive"
	suspect = "suspect" // two heartbeats are missing
	Gone    = "gone"    // it does not count any more
)

const (
	// BeatEvery is the pause between two heartbeats of a replica.
	BeatEvery = 2 * time.Second
	// BeatAlive is how long a replica counts without a heartbeat.
	BeatAlive = 10 * time.Second

	beatSuspect = 3 * BeatEvery
)

// State is the state of a replica by the age of its heartbeat.
func (h *Heard) State() string {
	switch {
	case h.Age > BeatAlive:
		return Gone
	case h.Age > beatSuspect:
		return suspect
	default:
		return Alive
	}
}

// EventEvidence is the kind of the event by which a replica says what it reported of the window of an opening.
const EventEvidence = redisstore.EventEvidence

// maxReplicas bounds the replicas that are read, the ones heard last.
const maxReplicas = 1000

// Replicas lists the replicas whose last heartbeat is at most an hour old, by name.
func (d *Docs) Replicas(ctx context.Context) ([]Heard, error) {
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return nil, redisstore.WrapError("heartbeat", "", err)
	}
	beats, err := d.client.ZRangeWithScores(ctx, d.keys.Replicas(), -maxReplicas, -1).Result()
	if err = failed("heartbeat", "", err); err != nil {
		return nil, err
	}
	var out []Heard
	for _, beat := range beats {
		id, _ := beat.Member.(string)
		age := now.Sub(time.UnixMilli(int64(beat.Score)))
		if age <= saidFor && breaker.ValidWord(id) { // others are planted [B20]
			out = append(out, Heard{ID: id, BeatMs: int64(beat.Score), Age: max(age, 0)})
		}
	}
	slices.SortFunc(out, func(a, b Heard) int { return cmp.Compare(a.ID, b.ID) })
	ids := make([]string, len(out))
	for i := range out {
		ids[i] = out[i].ID
	}
	said, err := d.getAll(ctx, "heartbeat", ids, d.keys.Replica)
	for i, text := range said {
		_ = json.Unmarshal([]byte(text), &out[i].ReplicaReport) // it may have expired, or be a newer program's
	}
	return out, err
}

// Silent are the replicas that are gone, but for those that ended in order and those of an hour ago, with the ms of
// their last heartbeats. nowMs is Redis' clock.
func (d *Docs) Silent(ctx context.Context, nowMs int64) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	beats, err := d.client.ZRangeByScoreWithScores(ctx, d.keys.Replicas(), &redis.ZRangeBy{
		Min: strconv.FormatInt(nowMs-saidFor.Milliseconds(), 10), Count: maxReplicas,
		Max: "(" + strconv.FormatInt(nowMs-BeatAlive.Milliseconds(), 10),
	}).Result()
	silent := map[string]int64{}
	for _, beat := range beats {
		if id, _ := beat.Member.(string); breaker.ValidWord(id) { // others are planted [B20]
			silent[id] = int64(beat.Score)
		}
	}
	return silent, failed("heartbeat", "", err)
}

// LastHeartbeats reads when a replica's last heartbeat was, and the newest of all, in ms; 0: there is none.
func (d *Docs) LastHeartbeats(ctx context.Context, replica string) (own, newest int64, err error) {
	pipe := d.client.Pipeline()
	ownScore := pipe.ZScore(ctx, d.keys.Replicas(), replica)
	last := pipe.ZRangeWithScores(ctx, d.keys.Replicas(), -1, -1)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, z := range last.Val() {
		newest = int64(z.Score)
	}
	return int64(ownScore.Val()), newest, errors.Join(
		failed("heartbeat", "", ownScore.Err()), failed("heartbeat", "", last.Err()))
}

// EndHeartbeat deletes a replica's heartbeat: Heartbeat counts it no longer.
func (d *Docs) EndHeartbeat(ctx context.Context, replica string) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	pipe := d.client.Pipeline()
	pipe.ZRem(ctx, d.keys.Replicas(), replica)
	pipe.Unlink(ctx, d.keys.Replica(replica))
	_, err := pipe.Exec(ctx)
	return failed("heartbeat", "", err)
}
