// Package metrics shows Prometheus what this replica does. [Metrics] is a [breaker.Observer], which counts; the states
// of the fleet's breakers and the connection pool are read at a scrape.
//
// All metrics with the label agent share one table of agents: the first maxAgents of them have series of their own, the
// others are counted under the agent "_other".
package metrics
