// Package machine is one agent's breaker as a pure function: Step takes the policy as integers, a snapshot, an operation and the
// time, and gives the next snapshot and the answer. It has no clock, no dice, no lock and no goroutine, and imports the standard
// library only.
//
// The package is for authors of stores; callers of agents use package breaker. The Redis scripts compute what Load, Step and Save
// compute, and are compared with them operation by operation. breaker.Memory is a map around Step.
//
// # The clauses
//
// Code, scripts and tests cite these numbers.
//
//   - [B1] One clock: the store's, in whole milliseconds, read once per operation. Times are kept as start and length; a start
//     in the future counts as now. Every random draw is an argument.
//   - [B2] Absent means closed, epoch 0, empty window. Only transitions draw a new epoch.
//   - [B3] Acquire gives a permit or refuses with one reason and a time to wait.
//   - [B4] An outcome is success, failure or ignored; ignored gives a probe's place back and changes nothing else.
//   - [B5] A record carries a Summary; summaries of one closed epoch join, associatively. Joining keeps runs exact; rates are
//     tested once, at the end of a record.
//   - [B6] Opens when a run of failures reaches the failure threshold, over records and replicas, in order of arrival. A record
//     without a failure opens nothing by a run.
//   - [B7] Opens when the window holds the minimum of calls and failures / calls reaches the rate; tested after every record.
//   - [B8] The same with slow calls.
//   - [B9] The window is twelve buckets that carry their start, which a hash of the agent's name shifts; a bucket counts while
//     now − window < start ≤ now. The error is at most one bucket's width. Buckets that leave go to a history of minutes.
//   - [B10] An opening stores start, length and its parts, epoch, cause, the episode's first cause, and evidence. The length is the
//     time-out times the multiplier to the number of reopenings, at most the maximum, plus jitter; or what an upstream asked for, if
//     that is longer.
//   - [B11] Every verb first advances to now, each step dated when it fell due; at the deadline counts as past. There is no
//     timer. Inspect shows the advanced state and saves nothing.
//   - [B12] Half-open admits at most round_max probes over all replicas, settled ones included; each holds a lease, which
//     lapses, and which its holder can renew. Size and need of a round are fixed when it begins. No lease is given when its caller
//     no longer waits, and a token without an epoch settles that lease or nothing.
//   - [B13] A round ends as soon as its outcome is certain: need successes close, max − need + 1 failures reopen. Successes of
//     which the share of slow ones reaches its rate reopen too.
//   - [B14] An outcome counts once, only in the epoch of its permit, and in half-open only while its lease stands.
//   - [B15] An outcome without a permit: closed, recorded; half-open, settles the oldest lease; open, ignored.
//   - [B16] Closing clears all that could open it again. A ramp admits a share that grows in a line to all; a trip during it
//     counts as a reopening.
//   - [B17] An operator holds a breaker open or closed, for a time or for ever; a protected hold is lifted only by force. An
//     expired open hold becomes half-open, an expired closed one fresh closed.
//   - [B18] Reset to closed or half-open lifts a hold and starts a new epoch.
//   - [B19] Edits of the keys are an interface: deleting or setting the state does what it says, deleting the timestamp ends
//     the wait, an edited timestamp is honoured.
//   - [B20] A planted key never makes a call fail: one table says what fields may hold, the rest is absent and repaired.
//   - [B21] Precedence: global switch, holds, enabled, machine. Mode observe admits and says what it would have refused.
//   - [B22] An upstream's Retry-After lengthens the wait, opens at once, or is ignored, as the policy says; it is capped.
//   - [B23] With minimum_reporters K a trip needs failures within the window from K reporters.
//   - [B25] Keys expire at one instant, renewed together; that is garbage collection and nothing else.
//   - [B26] What a replica counted while the store was away is replayed once, into the buckets that still count; it is evidence for
//     the next record, which may trip.
//
// [B24], the fleet-wide gate, is not part of this package yet.
package machine
