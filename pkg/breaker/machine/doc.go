// Package machine is one agent's circuit breaker as a pure function. It has no clock, no source of randomness, no lock
// and no goroutine, and imports the standard library only.
//
// It is for authors of stores; code that calls agents uses package breaker. breaker.Memory is a map around [Step]. The
// scripts in lua/ compute the same inside Redis, and package storetest compares the two after every operation.
//
// # An operation
//
// A store that keeps its breakers as keys carries out an operation in three steps:
//
//	loaded := machine.Load(raw)                                  // understand the keys
//	after, result := machine.Step(params, loaded, op, nowMs)     // decide
//	raw = machine.Save(raw, params, after, result.Events, nowMs) // say what the keys hold from now on
//
// A store that keeps a [Snapshot] needs [Step] alone.
//
// # The states
//
//	closed    → open       a threshold is reached [B6] [B7] [B8], or an upstream asks for it [B22]
//	open      → half_open  the wait is over [B10] [B11]
//	half_open → closed     enough probes succeed [B13]
//	half_open → open       the round can no longer succeed, or its successes are slow [B13]
//	any       → any        an operator forces it [B17] [B18], or somebody edits the keys [B19]
//
// Every transition draws a new epoch, which ends the permits of the old one [B14].
//
// # The files
//
//	state.go, op.go, event.go   the vocabulary: what a breaker is, what it is asked, what it answers and logs
//	params.go, summary.go       a policy as integers; what a record carries [B5]
//	load.go, fields.go          from keys to a snapshot: edits [B19], bad fields [B20]
//	step.go                     Step; repairs and edits; what fell due since [B11]; the expiry of the keys [B25]
//	transition.go               opening, the half-open round, closing [B10] [B12] [B13] [B16]
//	acquire.go                  permits and leases [B3] [B12] [B21]
//	record.go                   outcomes, trips [B4]–[B8] [B14] [B15] [B22] [B23], replays [B26]
//	force.go                    an operator's holds, releases and resets [B17] [B18]
//	window.go                   the buckets of the sliding window and their cached sums [B9]
//	save.go                     from a snapshot back to keys
//
// # The clauses
//
// Code, scripts and tests cite these numbers.
//
//   - [B1] One clock: the store's, in whole milliseconds, read once per operation. Times are kept as start and length;
//     a start in the future counts as now. Every random draw is an argument.
//   - [B2] Absent means closed, epoch 0, empty window. Only transitions draw a new epoch.
//   - [B3] Acquire gives a permit or refuses with one reason and a time to wait.
//   - [B4] An outcome is success, failure or ignored. Ignored gives back a probe's place and changes nothing else.
//   - [B5] A record carries a [Summary]. Summaries of one closed epoch join, associatively. Joining keeps runs exact;
//     rates are tested once, at the end of a record.
//   - [B6] A run of failures that reaches the failure threshold opens the breaker. Runs go on across records and
//     replicas, in order of arrival. A record without a failure opens nothing by a run.
//   - [B7] A window that holds the minimum of calls, with failures / calls at the failure rate or above, opens the
//     breaker. The rate is tested after every record, a success included.
//   - [B8] The same holds for slow calls and their rate.
//   - [B9] The window is twelve buckets. Each carries its start, which a hash of the agent's name shifts, and counts
//     while now − window < start ≤ now. The error is at most one bucket's width. Buckets that leave the window are
//     added to a history by minute.
//   - [B10] An opening stores start, length and its parts, epoch, cause, the episode's first cause, and evidence. Its
//     length is timeout × multiplier ^ reopenings, at most the maximum, plus jitter; or what is left of an upstream's
//     Retry-After, if that is longer.
//   - [B11] Every verb first advances to now. Each step is dated when it fell due, and a deadline that is now has
//     passed. There is no timer. Inspect shows the advanced state and saves nothing.
//   - [B12] Half-open admits at most round_max probes over all replicas, settled ones included. Each holds a lease,
//     which expires and which its holder can renew. The size of a round and the successes it needs are fixed when it
//     begins. No lease is given to a caller that no longer waits. A record with a token and no epoch settles that lease
//     or nothing.
//   - [B13] A round ends as soon as its outcome is certain: need successes close, max − need + 1 failures reopen.
//     Enough successes of which the slow ones reach the slow rate reopen too.
//   - [B14] An outcome counts once, in the epoch of its permit only, and in half-open only while its lease lasts.
//   - [B15] An outcome without a permit is recorded while closed, settles the oldest lease while half-open, and is
//     ignored while open.
//   - [B16] Closing clears all that could open it again. A ramp admits a share of calls that grows linearly to all; a
//     trip during a ramp counts as a reopening.
//   - [B17] An operator holds a breaker open or closed, for a time or without end. A protected hold is lifted
//     only with Force.Override. An expired or released open hold becomes half-open, a closed one a fresh closed
//     breaker.
//   - [B18] Reset to closed or half-open lifts a hold and starts a new epoch.
//   - [B19] The keys may be edited: deleting or setting the state does what it says, deleting the timestamp ends the
//     wait, an edited timestamp is honoured.
//   - [B20] A planted key never makes a call fail. One table says what fields may hold; anything else reads as absent
//     and is repaired.
//   - [B21] Precedence: global switch, holds, enabled, machine. Mode observe admits, and says what it would have
//     refused.
//   - [B22] An upstream's Retry-After lengthens the wait, opens at once, or is ignored, as the policy says. It is
//     capped.
//   - [B23] With minimum_reporters K a trip needs failures within the window from K reporters.
//   - [B25] All keys expire at one instant, which is renewed for all together. Expiry is garbage collection only.
//   - [B26] What a replica counted while the store was unavailable is replayed once, into the buckets that still count.
//     It is evidence for the next record, which may trip.
//
// [B24], the fleet-wide gate, is not built.
package machine
