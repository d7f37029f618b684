// Package breaker is a circuit breaker that a whole fleet shares: one breaker per agent, whose state, call history and open
// timestamp live in a Store and change only in atomic steps, so that every replica sees the same breaker at the same moment.
//
// A caller asks a Manager for a Permit, calls the agent, and settles the permit with the outcome; Manager.Do does all three. A
// refusal is an *OpenError. How a breaker decides is package machine, which lists the clauses [B1] to [B26] that comments cite.
//
// Where a policy is Cached, a Manager admits calls of a closed breaker from memory and sends their outcomes a little later, joined
// [B5]. Handles (Manager.Agent) save the look-up, and Manager.Close sends what is left.
package breaker
