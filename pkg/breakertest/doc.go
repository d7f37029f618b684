// Package breakertest is for tests of code that calls agents through breakers: a fleet in memory, whose clock the test
// moves. The code under test takes it as the [*fleet.Fleet], [breaker.Caller] or [*breaker.Manager] that it has in
// production.
//
//	func TestQuotes_FallBackWhileTheBreakerIsOpen(t *testing.T) {
//		f := breakertest.New(t)
//		quotes := &Quotes{breakers: f.Fleet, ask: ask, last: 99} // the code under test
//
//		f.Trip("pricing")
//		if price, err := quotes.Get(t.Context()); err != nil || price != 99 {
//			t.Errorf("%d, %v while the breaker is open, want the last known price", price, err)
//		}
//
//		f.HalfOpen("pricing")
//		for range 3 { // probes: Policy.HalfOpenMaxCalls
//			_, _ = quotes.Get(t.Context())
//		}
//		f.MustBeClosed("pricing")
//	}
//
// More to copy is among the examples, which are tests: example_test.go.
//
// # A fleet
//
// [New] makes the fleet, and the end of the test closes it. [fleet.Options] are those of production: Policy, PerAgent,
// Classify, Observer, OnStateChange. What it logs is in the test's output, with the fleet's clock. [Fleet.Replica] adds
// a replica on the same breakers: another process of the fleet, in the same test.
//
// # States
//
// [Fleet.Trip] opens a breaker by failures, and [Fleet.HalfOpen] makes it half-open by time, as production would. What
// an operator does is among the methods of [fleet.Fleet]: Open, Reset, Release. [Fleet.MustBeOpen],
// [Fleet.MustBeHalfOpen] and [Fleet.MustBeClosed] end the test unless the breaker is in that state, and say why it is
// not.
//
// # The clock
//
// The clock of the breakers begins at the year 2000, and only [Fleet.Advance] moves it. It has the waits of open
// breakers, the windows of the rates, probes' leases, ramps and holds. Waits have no jitter: a policy's Timeout is
// exact. A breaker changes by time when somebody asks it, as in production: OnStateChange is called for the change
// then.
//
// What follows the time of the process and not this clock: the duration of a call, by which it is slow (report it by
// [breaker.Permit.Settle], or set Outcome.Slow); the renewal of a probe's lease while its call runs, so that a probe
// in flight loses its lease if Advance moves the clock by more than Policy.ProbeTimeout, as if its process had stalled;
// and the moment at which [fleet.Fleet.Wait] returns, about 150 ms at most after an Advance to half-open.
//
// # In a bubble of testing/synctest
//
// There the time of the process is the bubble's, and the fleet's clock is too: it moves with [time.Sleep], and Advance
// sleeps. Then all of the above follows one clock, and no test waits in real time. Make the fleet inside the bubble,
// with the bubble's t. Which of both to use:
//
//   - The code under test asks, calls and returns: no bubble. Its agents may be servers of package httptest, which do
//     not work in one.
//   - The code under test waits, by [fleet.Fleet.Wait], by timers or by deadlines, or its calls are to be slow: a
//     bubble, with agents that are functions.
//
// # Limits
//
// Breakers are in a [breaker.Memory]: the store is never down, no trip waits for Policy.MinimumReporters, and a closed
// breaker that is not used for one to two hours is forgotten.
package breakertest
