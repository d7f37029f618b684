package main

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// soakSample is what the fleet and Redis hold at one moment.
type soakSample struct {
	heap, goroutines, files     float64
	redisMemory, redisKeys      float64
	unsentAgents, unsentAge, at float64
	names                       float64 // made so far
}

// soakMetric is one figure that must not grow: its median of the last third may exceed that of the second by a tenth
// and slack. What expires stays for a while, so a third in which the fleet made more names may hold more of it, in
// proportion.
type soakMetric struct {
	name    string
	slack   float64
	expires bool
	of      func(soakSample) float64
}

const mebi = 1 << 20

func soakMetrics() []soakMetric {
	return []soakMetric{
		{"heap after GC, MiB", 4, false, func(s soakSample) float64 { return s.heap / mebi }},
		{"goroutines", 40, false, func(s soakSample) float64 { return s.goroutines }},
		{"open files", 20, false, func(s soakSample) float64 { return s.files }},
		{"Redis memory, MiB", 2, true, func(s soakSample) float64 { return s.redisMemory / mebi }},
		{"Redis keys", 1000, true, func(s soakSample) float64 { return s.redisKeys }},
		{"agents with unsent outcomes", 200, false, func(s soakSample) float64 { return s.unsentAgents }},
		{"oldest unsent outcome, ms", 250, false, func(s soakSample) float64 { return s.unsentAge }},
	}
}

// sampleUntil samples until ctx ends.
func (s *soak) sampleUntil(ctx context.Context) (samples []soakSample) {
	for pause(ctx, min(max(s.lasts/120, 250*time.Millisecond), 5*time.Second)) {
		if sample, ok := s.sample(ctx); ok {
			samples = append(samples, sample)
		}
	}
	return samples
}

// sample takes one sample. ok is false while Redis is down.
func (s *soak) sample(ctx context.Context) (x soakSample, ok bool) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	has := footprint()
	x = soakSample{
		heap: float64(m.HeapAlloc), goroutines: float64(has.goroutines), files: float64(has.files),
		at: time.Since(s.began).Seconds(), names: float64(s.names.Load()),
	}
	for _, r := range s.fleet {
		u := r.m.Backlog()
		x.unsentAgents += float64(u.Agents)
		x.unsentAge = max(x.unsentAge, millis(u.Oldest))
	}
	memory, err := s.server.usedMemory(ctx)
	if err != nil {
		return x, false
	}
	keys, err := s.server.client.DBSize(ctx).Result()
	x.redisMemory, x.redisKeys = memory, float64(keys)
	return x, err == nil
}

var usedMemory = regexp.MustCompile(`(?m)^used_memory:(\d+)`)

// usedMemory is the bytes that Redis has allocated.
func (s *redisServer) usedMemory(ctx context.Context) (float64, error) {
	info, err := s.client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	m := usedMemory.FindStringSubmatch(info)
	if m == nil {
		return 0, fmt.Errorf("INFO memory without used_memory: %q", info)
	}
	return strconv.ParseFloat(m[1], 64)
}

// A trend needs so many samples in a third, and a run that is much longer than what expires in it.
const (
	trendSamples = 8
	trendAfter   = 30 * time.Second
)

// thirds are the medians of a figure in each third of the time.
func thirds(samples []soakSample, lasts time.Duration, of func(soakSample) float64) (m [3]float64, n [3]int) {
	var parts [3][]float64
	for _, x := range samples {
		i := min(int(3*x.at/lasts.Seconds()), 2)
		parts[i] = append(parts[i], of(x))
	}
	for i, p := range parts {
		m[i], n[i] = median(p), len(p)
	}
	return m, n
}

// recent returns the samples with the names made within one and a half TTLs before them, which is how long the keys of
// an agent that is called once live.
func recent(samples []soakSample, ttl time.Duration) []soakSample {
	out, first := slices.Clone(samples), 0
	for i, x := range samples {
		for samples[first].at < x.at-1.5*ttl.Seconds() {
			first++
		}
		out[i].names = x.names - samples[first].names
	}
	return out
}

// judge reports the figures, and records as faults what grew and what should have happened and did not.
func (s *soak) judge(samples []soakSample) string {
	t := newTable("median of", "first third", "second", "last", "allowed", "")
	names, _ := thirds(recent(samples, s.ttl), s.lasts, func(x soakSample) float64 { return x.names })
	more := max(names[2]/max(names[1], 1), 1)
	for _, x := range soakMetrics() {
		m, n := thirds(samples, s.lasts, x.of)
		most, verdict := 1.1*m[1]+x.slack, "flat"
		if x.expires {
			most = 1.1*more*m[1] + x.slack
		}
		switch {
		case s.lasts < trendAfter, min(n[1], n[2]) < trendSamples:
			verdict = "too short to tell"
		case m[2] > most:
			verdict = "**grew**"
			s.faultf("%s grew: %.1f in the second third, %.1f in the last", x.name, m[1], m[2])
		}
		t.row(x.name, fmt.Sprintf("%.1f", m[0]), fmt.Sprintf("%.1f", m[1]), fmt.Sprintf("%.1f", m[2]), fmt.Sprintf("%.1f", most), verdict)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v, %d samples, %d cached and %d strict replicas, Redis killed once and every connection %d times\n\n%s\n",
		s.lasts, len(samples), s.cached, s.strict, s.cuts.Load(), t)
	for _, c := range s.counters() {
		fmt.Fprintf(&b, "%s: %s\n", c.what, count(float64(c.n)))
		if c.missing() {
			s.faultf("the soak proves nothing: %s: none", c.what)
		}
	}
	return b.String()
}

// soakCounter is how often something happened. A soak in which it must happen and did not proves nothing.
type soakCounter struct {
	what string
	n    int64
	must bool
}

func (c soakCounter) missing() bool { return c.must && c.n == 0 }

func (s *soak) counters() []soakCounter {
	l := s.accounts
	return []soakCounter{
		{"names", s.names.Load(), true},
		{"outcomes that Redis acknowledged", l.acked.Load(), true},
		{"records of joined outcomes", l.records.Load(), true},
		{"outcomes counted in memory while Redis was down", l.degraded.Load(), true},
		{"unknown outcomes", l.unknown.Load(), false},
		{"outcomes not counted (late, ignored, disabled, lost)", l.uncounted.Load(), true},
		{"refusals", l.refused.Load(), true},
		{"probes", l.probes.Load(), true},
		{"breakers opened", l.opened.Load(), true},
		{"breakers closed by their probes", l.closed.Load(), true},
		{"manual actions, overrides and reads", s.manual.Load(), true},
		{"overrides", s.overrides.Load(), true},
		{"tracked agents counted exactly", s.exact.Load(), true},
		{"tracked agents counted up to unknown outcomes", s.within.Load(), false},
		{"tracked agents that the outage met, not compared", s.lost.Load(), false},
		{"tracked agents without a record for most of the TTL, not compared", s.expired.Load(), false},
	}
}

func TestSoakTrend_FindsWhatGrows(t *testing.T) {
	t.Parallel()
	const lasts = time.Minute
	for name, c := range map[string]struct {
		heap func(second float64) float64 // MiB
		want string
	}{
		"flat":                {func(float64) float64 { return 30 }, "flat"},
		"full after a third":  {func(at float64) float64 { return 30 + min(at, 20) }, "flat"},
		"leaks":               {func(at float64) float64 { return 30 + at }, "**grew**"},
		"one peak at the end": {func(at float64) float64 { return 30 + 100*max(0, at-58.5) }, "flat"},
	} {
		var samples []soakSample
		for at := 0.5; at < lasts.Seconds(); at++ {
			samples = append(samples, soakSample{at: at, heap: c.heap(at) * mebi})
		}
		s := &soak{soakPlan: soakPlan{lasts: lasts}, accounts: newAccounts()}
		_, rest, _ := strings.Cut(s.judge(samples), "| heap")
		row, _, _ := strings.Cut(rest, "\n")
		if !strings.HasSuffix(row, "| "+c.want+" |") {
			t.Errorf("%s: %s", name, row)
		}
	}
}

func TestSoakTrend_CountsNamesOfTheLastTTLs(t *testing.T) {
	t.Parallel()
	var samples []soakSample
	for at := range 20 {
		samples = append(samples, soakSample{at: float64(at), names: 10*float64(at) + 100*max(0, float64(at)-10)})
	}
	got := recent(samples, 2*time.Second)
	if got[2].names != 20 || got[9].names != 30 || got[19].names != 330 || samples[19].names != 1090 {
		t.Errorf("%v", got)
	}
}

func TestSoakJudge_FaultsARunInWhichNothingHappens(t *testing.T) {
	t.Parallel()
	s := &soak{soakPlan: soakPlan{lasts: time.Minute}, accounts: newAccounts()}
	s.judge(nil)
	if len(s.faults) == 0 {
		t.Fatal("no fault")
	}
}
