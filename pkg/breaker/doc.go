// Package breaker is the Go library of breakerd: circuit breakers that all replicas of a fleet share, one for each
// agent that they call. A breaker's state, call window and leases live in a [Store] and change only in atomic steps
// there, so every replica sees the same breaker.
//
// A program joins a fleet by package fleet, and calls through it:
//
//	f, err := fleet.Join(ctx, "redis://localhost:6379/0", fleet.Options{}) // "": in this process's memory
//	if err != nil {
//		return err
//	}
//	defer f.Close(ctx)
//
//	price, err := breaker.Call(ctx, f, "pricing", askPrice) // askPrice is a func(context.Context) (int, error)
//	if errors.Is(err, breaker.ErrOpen) {
//		return lastKnown, nil // the breaker refuses: nothing was called
//	}
//	return price, err
//
// Behind a Fleet is a [Manager], which this package describes. Most programs need only [Call], [Policy] and
// [OpenError]. docs/library.md has an example of everything.
//
// # Calls
//
// [Call] and [Manager.Do] ask the breaker of an agent, call, and report the outcome. A refusal is an [*OpenError],
// which is [ErrOpen]: it says why, and when it makes sense to ask again. If the call was made, the error is the call's
// own, as it was.
//
// Options.Classify makes the [Outcome] of a call. The default is [Classify]: an error is a failure, unless the caller
// itself cancelled the call.
//
// [Manager.Acquire] and [Permit.Settle] are the two halves of Do. A [Permit] allows one call and owes one outcome. A
// permit of a half-open breaker is a probe and holds a lease, which lapses unless it is renewed ([Permit.Keep]).
//
// [Manager.Wait] is for loops that go on until an agent answers: it returns when a call may be tried, and keeps waiters
// from asking and calling all at once.
//
// # Policies
//
// [Policy] configures a breaker; the zero Policy has the defaults. Its Consistency is the mode:
//
//   - [Strict], the default, asks the store for every permit and reports every outcome to it, in one round trip each.
//   - [Cached] admits calls of a closed breaker from memory, and sends their outcomes joined, some milliseconds later
//     [B5]. While the breaker is not closed, every call asks the store. [Manager.Close] sends the outcomes that are
//     left.
//
// # Observers
//
// Options.Observer is notified of calls, refusals, outcomes and events. Package breakerlog logs them, package
// breakerprom counts them for Prometheus, and [Observers] joins several. [Feed] has the transitions that other replicas
// cause.
//
// # Operators
//
// [Manager.Inspect] shows a breaker. [Manager.Open], [Manager.Release] and [Manager.Reset] change it for the whole
// fleet.
//
// # When the store is down
//
// A Store that cannot answer returns a [*StoreError]. A [Fallback] around it answers in its place, as
// Policy.OnStoreError says: from a breaker in memory, or by admitting or refusing all calls. [Manager.Do] returns the
// error of the call itself, whatever becomes of its outcome.
//
// # Tests
//
// Package breakertest is a fleet in memory, for tests of code that calls through breakers.
//
// # A Manager by hand
//
// A fleet is a Manager with all that a replica does besides: overrides, heartbeat, list of agents. By hand, a
// [NewManager] over [Memory], or over a [Fallback] around a store of one's own, has none of these.
//
// # Concurrency
//
// [Manager], [Agent], [Classic], [Memory] and [Fallback] are safe for concurrent use. They hold no lock while they call
// an agent, the store or an [Observer]. The methods of a Permit may be called from any goroutine, but not on copies of
// it. A panic in a function of [Options] is recovered and logged.
//
// Package machine has the rules by which a breaker decides, as the clauses [B1] to [B26] that comments cite.
package breaker
