// Package fleet makes a Go program a replica of a fleet: its breakers are those of all replicas, breakerd and bridge
// among them. [Join] is all of it:
//
//	f, err := fleet.Join(ctx, os.Getenv("REDIS_URL"), fleet.Options{})
//	if err != nil {
//		return err
//	}
//	defer f.Close(context.WithoutCancel(ctx))
//	answer, err := breaker.Call(ctx, f, "payments", call) // call is a func(context.Context) (T, error)
//	if errors.Is(err, breaker.ErrOpen) {
//		… // not called: the breaker refuses
//	}
//
// # What a replica does
//
// It asks the breakers in Redis and reports to them. It follows the overrides that an operator sets through any
// replica, within a second, and the agent registry, if Options.FromEnv is set and AGENTS_FILE names one. It is counted
// among the replicas by its heartbeat, and lists its agents where breakerd lists them. It logs each transition that it
// brings about. While Redis is down it answers from its memory, and counts; when Redis is back, it replays what it
// counted. If Redis has lost its data, it helps to put protected holds back.
//
// # Calls
//
// [Fleet.Do] and [breaker.Call] ask, call and report. [Fleet.Acquire] and [breaker.Permit] are the same in two steps,
// and [Fleet.Agent] saves the lookup by name. [Fleet.Wait] waits until a call may be tried. What these mean, and the
// errors that they return, is in package breaker.
//
// # Operating
//
// [Fleet.State], [Fleet.List] and [Fleet.Inspect] show breakers; [Fleet.Open], [Fleet.Reset], [Fleet.Release] and
// [Fleet.Configure] act on one, for all replicas.
//
// # Without Redis
//
// An empty URL makes a fleet of this process alone, whose breakers are in its memory. So does [New], on a store of your
// own. embedded://, an in-process Redis, is for demonstrations; it needs Options.Embedded.
package fleet
