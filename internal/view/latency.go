package view

import (
	"time"

	"github.com/breakerd/breakerd/internal/latency"
)

// Latency is how JSON shows how long the calls of an agent took.
type Latency struct {
	Calls     int64      `json:"calls"       doc:"Successes and failures whose duration is known."`
	AverageMs float64    `json:"average_ms"  doc:"Exact: the sum of the durations by the calls."`
	P50Ms     float64    `json:"p50_ms"      doc:"Percentiles are right to within a factor of two."`
	P95Ms     float64    `json:"p95_ms"`
	P99Ms     float64    `json:"p99_ms"`
	FirstByte *FirstByte `json:"first_byte,omitempty" doc:"Until the first byte of the answer, where bridge made the call; missing: no such call."`
	Replicas  int        `json:"replicas"    doc:"How many made these calls."`
	Since     string     `json:"since"       doc:"No call is older; at most ten minutes ago." format:"date-time"`
}

// FirstByte is how JSON shows how long the first bytes of answers took.
type FirstByte struct {
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
}

// LatencyOf shows figures of at least one call.
func LatencyOf(f *latency.Figures) Latency {
	out := Latency{
		Calls: f.Calls.Calls(), AverageMs: ms(f.Calls.Average()), P50Ms: ms(f.Calls.Percentile(50)),
		P95Ms: ms(f.Calls.Percentile(95)), P99Ms: ms(f.Calls.Percentile(99)), Replicas: f.Replicas,
		Since: f.Since.UTC().Format(time.RFC3339),
	}
	if f.FirstByte.Calls() > 0 {
		out.FirstByte = &FirstByte{P50Ms: ms(f.FirstByte.Percentile(50)), P99Ms: ms(f.FirstByte.Percentile(99))}
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
