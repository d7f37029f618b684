// Package breaker is the Go library of breakerd: circuit breakers that all replicas of a fleet share, one for each
// agent that they call. A breaker's state, call window and leases live in a [Store] (Redis, by package redisstore) and
// change only in atomic steps there, so every replica sees the same breaker.
//
// # Permits
//
// [Manager.Acquire] asks the breaker of an agent for a [Permit], which allows one call and owes one outcome
// ([Permit.Settle]). [Manager.Do] acquires, calls and settles. A refusal is an [*OpenError]: it says why, and when it
// makes sense to ask again. A permit of a half-open breaker is a probe and holds a lease, which lapses unless it is
// renewed ([Permit.Keep]).
//
// # Modes
//
// [Policy] configures a breaker; the zero Policy has the defaults. Its Consistency is the mode:
//
//   - [Strict], the default, asks the store for every permit and reports every outcome to it, in one round trip each.
//   - [Cached] admits calls of a closed breaker from memory, and sends their outcomes joined, some milliseconds later
//     [B5]. While the breaker is not closed, every call asks the store. [Manager.Close] sends the outcomes that are
//     left.
//
// # When the store is down
//
// A Store that cannot answer returns a [*StoreError]. A [Fallback] around it answers in its place, as
// Policy.OnStoreError says: from a breaker in memory, or by admitting or refusing all calls. [Manager.Do] returns the
// error of the call itself, whatever becomes of its outcome.
//
// # Concurrency
//
// [Manager], [Agent], [Classic], [Memory] and [Fallback] are safe for concurrent use. They hold no lock while they call
// an agent, the store or an [Observer]. The methods of a Permit may be called from any goroutine, but not on copies of
// it.
//
// Package machine has the rules by which a breaker decides, as the clauses [B1] to [B26] that comments cite.
package breaker
