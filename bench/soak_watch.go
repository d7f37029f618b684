package main

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// soakSample is what the fleet and Redis hold at one moment.
type soakSample struct {
	heap, goroutines, files     float64
	redisMemory, redisKeys      float64
	unsentAgents, unsentAge, at float64
	names                       float64 // so far
}

// soakMetric is one figure that must not grow: in the last third at most a tenth and its slack above the second. What expires lasts
// a while, so a third in which a less busy machine made more names may hold more of it, in proportion.
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

// watch samples until ctx ends.
func (s *soak) watch(ctx context.Context) (samples []soakSample) {
	for pause(ctx, min(max(s.lasts/120, 250*time.Millisecond), 5*time.Second)) {
		if sample, ok := s.sample(ctx); ok {
			samples = append(samples, sample)
		}
	}
	return samples
}

// sample looks once; not while Redis is away.
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

// usedMemory is what Redis has allocated, in bytes.
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

// A trend can be told from so many samples in a third, in a run that outlives by far what expires in it.
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

// recent are the samples with the names of one and a half times the TTL before them, which is how long a visitor's keys live.
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

// judge tells what was seen, and notes what grew, and what did not happen though it should have.
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
	for _, f := range s.happened() {
		fmt.Fprintf(&b, "%s: %s\n", f.what, count(float64(f.n)))
		if f.must && f.n == 0 {
			s.faultf("nothing was proved: %s: none", f.what)
		}
	}
	return b.String()
}

// soakFact is how often something happened; must: a soak without it proves nothing.
type soakFact struct {
	what string
	n    int64
	must bool
}

func (s *soak) happened() []soakFact {
	l := s.book
	return []soakFact{
		{"names", s.names.Load(), true},
		{"outcomes that Redis acknowledged", l.acked.Load(), true},
		{"records that carried joined ones", l.records.Load(), true},
		{"outcomes counted in memory while Redis was away", l.degraded.Load(), true},
		{"outcomes of which nobody knows", l.unknown.Load(), false},
		{"outcomes not counted (late, ignored, disabled, lost)", l.uncounted.Load(), true},
		{"refusals", l.refused.Load(), true},
		{"half-open test calls", l.probes.Load(), true},
		{"breakers opened", l.opened.Load(), true},
		{"breakers closed by their test calls", l.closed.Load(), true},
		{"an operator's hands on agents", s.handWork.Load(), true},
		{"of them overrides", s.overrides.Load(), true},
		{"residents counted exactly", s.exact.Load(), true},
		{"residents counted up to the unknown", s.within.Load(), false},
		{"residents that were there when Redis was killed, not compared", s.lost.Load(), false},
		{"residents without a record for most of the TTL, not compared", s.expired.Load(), false},
	}
}
