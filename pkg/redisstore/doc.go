// Package redisstore keeps circuit breakers in Redis, so that all replicas of a fleet share each breaker. [Open] makes
// a client of a URL, and [New] a [Store] of the client, which is a breaker.Store.
//
// # Atomicity
//
// An operation on an agent is one Lua script: it reads the agent's keys, advances the breaker to the time of the
// server's clock, decides, and writes. Redis runs one script at a time, so no two replicas decide on the same state.
// Two operations have a shorter form. An acquire whose breaker was closed before is two reads, and falls back to its
// script if they do not say closed again. Successes of several agents, sent at once, are counted by one script.
//
// On a Cluster the keys of one agent share a slot. The streams of events and the index of breakers that are not closed
// belong to all agents and have other slots: there the replica writes them after the script. If that fails, they lack
// an event that the agent's own log has.
//
// # Servers
//
// Redis 7.0 or later, or Valkey: one server over TCP, TLS or a unix socket, behind Sentinel, or a Cluster. Package
// embedded, below this one, has a server in the process, for a first try and for tests. [Conn.Check] says whether a
// server and its settings fit.
//
// # Failure
//
// An operation that fails returns a *breaker.StoreError. One that has not run, because no connection came about or the
// server refused it, is tried again until [Config].Timeout is over. One that may have run is not sent again: its error
// is Unknown. breaker.Fallback answers from memory meanwhile. Redis replicates asynchronously: a failover can lose the
// last operations that it answered.
package redisstore
