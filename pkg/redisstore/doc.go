// Package redisstore keeps circuit breakers in Redis, so that all replicas of a fleet share each breaker. Programs use
// it through package fleet, which needs a URL only. By hand, [Open] makes a client of a URL, and [New] a [Store] of the
// client, which is a breaker.Store:
//
//	conn, err := redisstore.Open(ctx, "redis://localhost:6379/0", redisstore.Options{})
//	if err != nil {
//		return err
//	}
//	defer conn.Close()
//	if _, err := conn.Check(ctx); err != nil { // a wrong password, an old server, no server
//		return err
//	}
//	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{})
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	fallback := breaker.NewFallback(breaker.FallbackOptions{Store: store, Ping: store.Ping, Born: store.Born})
//	defer fallback.Close()
//	m, err := breaker.NewManager(breaker.Options{Store: fallback})
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
// server refused it, is tried again until [Config].Timeout is over. One that may have run is Unknown, and is not sent
// again but for one case: if its connection was cut (Cut) and its token makes a second execution harmless, it is sent
// once more. Refused is an error that Redis answered to this operation alone. breaker.Fallback answers from memory
// meanwhile. Redis replicates asynchronously: a failover can lose the last operations that it answered.
//
// No lease of a half-open breaker is left without a holder: none is given to a caller that has given up by the server's
// clock, and one that may have been given unheard is given back in the background. [Store.Close] ends that.
package redisstore
