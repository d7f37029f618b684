// Package breakerlog writes what breakers do to a [slog.Logger], in lines whose words and attributes stay the same, so
// that operators, alerts and runbooks can search for them.
//
// A fleet logs so by itself, to the Logger of its Options. With a Manager of one's own:
//
//	observer := breakerlog.New(logger, breakerlog.Options{})
//	manager, err := breaker.NewManager(breaker.Options{Store: store, Observer: observer})
//
// With other observers, see [breaker.Observers].
//
// # Lines
//
// Each event is one line, from the process that caused it:
//
//	level  message                                                         event=circuit_breaker.…
//	WARN   Circuit breaker OPENED                                          opened, manual_open, …
//	INFO   Circuit breaker transitioned to CLOSED                          closed, manual_close, manual_reset, …
//	INFO   Circuit breaker transitioned to HALF_OPEN                       half_opened, manual_reset, …
//	WARN   Circuit breaker keys held bad fields, which were repaired       healed
//	WARN   Circuit breaker keys were edited under a protected hold,        hand_restored
//	       and put back
//	INFO   Circuit breaker half-open test                                  half_open_test
//	WARN   CircuitBreakerOpenError                                         refused; see Options.RefusalInterval
//	DEBUG  Failure recorded (3/5)                                          failure
//	DEBUG  Success recorded                                                success
//	DEBUG  Outcome not counted                                             not_counted
//	DEBUG  Outcomes not counted                                            not_counted, of joined ones (cached mode)
//
// "Failure recorded (3/5)" is the third failure in a row, of five that open the breaker. Without a number the run does
// not decide: the call was a probe, or the policy has no failure_threshold.
//
// The level of Logger is asked at each line, so it may change while the program runs; for successes of cached mode it
// counts from an agent's next flush on. While debug is off, an admitted call in cached mode costs no more than without
// an Observer; in strict mode it costs one question to [slog.Handler.Enabled]. Neither allocates.
//
// # Attributes
//
// Each line has component="Circuit Breaker" (see [Component]), event and agent, in this order. Then follow, where they
// apply:
//
//	from, to             of an event: CLOSED, OPEN or HALF_OPEN
//	reason               of an event: the cause of an opening, or the operator's words; of a refusal: why
//	actor                who asked for it; "-": nobody, the breaker itself
//	failures, calls      what an opening is based on
//	epoch, at            of an event
//	degraded             true: in this process's memory only, because the store was down
//	detail               of an event: what it means; see below
//	outcome, class       of a call: success, failure or ignored, and the class of its error
//	state                of a refusal
//	retry_after_seconds  of a refusal
//	seconds, slow        of a call, if measured, and if slow
//	pending              true: sent to the store soon (cached mode)
//	why                  an outcome does not count
//	calls, failures      that do not count
//
// The attribute detail says the same as from, to, event and reason, in words that a person searches for:
//
//	Recovery confirmed              the probes of a round succeeded: half-open to closed
//	Test request failed, reopening  they did not: half-open to open
//	Test requests slow, reopening   they were too slow: half-open to open
//	Manual reset (was OPEN)         somebody reset the breaker, which was in that state
//	Manual release (was OPEN)       somebody ended the hold of the breaker, which was in that state
//
// # Searching
//
// Both handlers of package slog write a line that these commands find; attributes that [slog.Logger.With] adds stand
// before the event:
//
//	grep "Circuit Breaker"                            all lines
//	grep "Circuit breaker OPENED"                     openings, those by hand too
//	grep "Circuit breaker transitioned to CLOSED"     closings
//	grep "CircuitBreakerOpenError"                    agents whose calls are refused
//	grep "circuit_breaker.*manual"                    what a person did
//	grep "circuit_breaker.*my-agent"                  what happened to one agent
//	grep "circuit_breaker.*half_open_test.*my-agent"  its probes
//	grep "Failure recorded"                           how a run of failures grew
//	grep "Recovery confirmed"                         probes that closed a breaker
//	grep "Test request failed, reopening"             probes that opened it again
//	grep "Manual reset"                               resets
//
// The second to fourth are those of a deployment guide, the next three of a runbook on stuck breakers; the words of the
// last four come from a breaker in a coordinator's own process.
//
// # Trouble
//
// A call waits for the Logger to take its line, so a Handler should not block. No lock is held meanwhile: calls that
// log nothing go on. A panic in a Handler is recovered by the Manager. Text that others supply, such as an error's
// class, is cut, and has no control characters.
package breakerlog
