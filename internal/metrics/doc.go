// Package metrics shows Prometheus what this replica does. Of its breakers that is package breakerprom's Collector,
// which counts as a [breaker.Observer]; beside it stand the Go runtime, the process, the connection pool, the log and
// what only bridge does.
//
// All metrics with the label agent share the Collector's table of agents, those of bridge included.
package metrics
