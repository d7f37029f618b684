package latency

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// published is the text that a replica publishes.
type published struct {
	Agents map[string]publishedFigures `json:"agents"`
}

// publishedFigures leave out the empty buckets at the end.
type publishedFigures struct {
	SinceMs    int64   `json:"since_ms"` // ms since 1970
	SumUs      int64   `json:"sum_us"`
	Calls      []int64 `json:"calls"` // by bucket
	FirstSumUs int64   `json:"first_byte_sum_us,omitempty"`
	FirstByte  []int64 `json:"first_byte,omitempty"` // by bucket
}

// Text is what a replica publishes: the foremost of its figures, as JSON.
func Text(all map[string]Figures) ([]byte, error) {
	out := published{Agents: map[string]publishedFigures{}}
	for agent, f := range foremost(all) {
		out.Agents[agent] = publishedFigures{
			SinceMs: f.Since.UnixMilli(), SumUs: f.Calls.Sum.Microseconds(), Calls: trimmed(&f.Calls),
			FirstSumUs: f.FirstByte.Sum.Microseconds(), FirstByte: trimmed(&f.FirstByte),
		}
	}
	return json.Marshal(out)
}

func trimmed(c *Counts) []int64 {
	n := buckets
	for n > 0 && c.InBucket[n-1] == 0 {
		n--
	}
	return slices.Clone(c.InBucket[:n])
}

// errText is the error of a text that no replica has published.
var errText = errors.New("latency: not the figures of a replica")

// What a text may hold at most, so that the figures of many replicas can be added.
const (
	mostCalls = 1 << 40 // in one bucket
	mostSumUs = 1 << 47 // four years
)

// Parse reads what [Text] wrote. Anybody may have written it [B20].
func Parse(text string) (map[string]Figures, error) {
	var in published
	if err := json.Unmarshal([]byte(text), &in); err != nil || len(in.Agents) > 2*most {
		return nil, errText
	}
	out := make(map[string]Figures, len(in.Agents))
	for agent, p := range in.Agents {
		calls, ok := counts(p.Calls, p.SumUs)
		first, okFirst := counts(p.FirstByte, p.FirstSumUs)
		if !ok || !okFirst || !breaker.ValidName(agent) || calls.Calls() == 0 {
			return nil, errText
		}
		out[agent] = Figures{Calls: calls, FirstByte: first, Since: time.UnixMilli(p.SinceMs), Replicas: 1}
	}
	return out, nil
}

func counts(inBucket []int64, sumUs int64) (c Counts, ok bool) {
	if len(inBucket) > buckets || sumUs < 0 || sumUs > mostSumUs {
		return c, false
	}
	c.Sum = time.Duration(sumUs) * time.Microsecond
	for i, n := range inBucket {
		if n < 0 || n > mostCalls {
			return c, false
		}
		c.InBucket[i] = n
	}
	return c, true
}
