// Package latency keeps how long calls of agents took: a fixed histogram of 24 buckets for each agent, over about the
// last ten minutes.
//
// The buckets' upper bounds are 125 µs and its doubles: 0.125, 0.25, 0.5, 1, 2, 4 … ms up to 524 s; the last one has no
// bound. So a percentile is right to within a factor of two, and the average, from the true sum, is exact.
//
// A [Table] belongs to one replica. What it publishes is [Figures] as text, at most the 200 slowest agents and as
// many of the busiest; those of several replicas join.
package latency
