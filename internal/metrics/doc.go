// Package metrics shows what this replica does and sees to Prometheus. Metrics is a breaker.Observer: the Manager tells it what
// happens. The state of the fleet's breakers, and the connection pool, it asks for when it is scraped.
//
// Every metric with the label agent shares one table of agents: the first MaxAgents of them have series of their own, all others
// are counted under the agent "_other", which no agent can be called.
package metrics
