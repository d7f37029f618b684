package redisstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Keys names every key in Redis. On a Cluster an agent's name is in braces, so that its keys share a slot. Keys is for
// authors of what reads or writes beside a [Store].
type Keys struct {
	Prefix  string
	Cluster bool
}

// agent is "<prefix>:<agent>:<what>".
func (k Keys) agent(agent, what string) string {
	if k.Cluster {
		agent = "{" + agent + "}"
	}
	return k.Prefix + ":" + agent + ":" + what
}

// Machine gives the seven keys of the machine, in the scripts' order.
func (k Keys) Machine(agent string) []string {
	return []string{
		k.agent(agent, "state"), k.agent(agent, "open_timestamp"), k.agent(agent, "calls"),
		k.agent(agent, "control"), k.agent(agent, "probes"), k.agent(agent, "log"), k.agent(agent, "history"),
	}
}

// Of is one of the keys of an agent, by the last part of its name.
func (k Keys) Of(agent, what string) string { return k.agent(agent, what) }

// withFleet adds the fleet's keys that the machine's scripts write. On a Cluster they have other slots, and the replica
// writes them.
func (k Keys) withFleet(keys []string) []string {
	if k.Cluster {
		return keys
	}
	return append(keys, k.NotClosed(), k.Stream(), k.Audit())
}

// Log is the capped list of an agent's transitions and manual actions, newest first.
func (k Keys) Log(agent string) string { return k.agent(agent, "log") }

// Quarantine is the capped list of an agent's failed and refused calls, newest first.
func (k Keys) Quarantine(agent string) string { return k.agent(agent, "quarantine") }

// Config is an agent's policy override, JSON.
func (k Keys) Config(agent string) string { return k.agent(agent, "config") }

// Profile is an agent's contact, url and labels, JSON.
func (k Keys) Profile(agent string) string { return k.agent(agent, "profile") }

// Report remembers one Idempotency-Key for ten minutes.
func (k Keys) Report(agent, id string) string {
	sum := sha256.Sum256([]byte(id))
	return k.agent(agent, "report:"+hex.EncodeToString(sum[:16]))
}

// Replay remembers one replayed batch until none of its buckets counts [B26].
func (k Keys) Replay(agent, token string) string { return k.agent(agent, "replay."+token) }

// Action remembers for a day that an agent has had its part of an action on many.
func (k Keys) Action(agent, id string) string { return k.agent(agent, "action."+id) }

// FleetAction is what an operator asked of many agents, and what became of it: a hash.
func (k Keys) FleetAction(id string) string { return k.Prefix + ":action." + id }

// FleetActionTurn is the replica that carries an action out now.
func (k Keys) FleetActionTurn(id string) string { return k.Prefix + ":action_turn." + id }

// FleetActions are the actions that are not finished: a sorted set, id, score = when it was asked for in ms.
func (k Keys) FleetActions() string { return k.Prefix + ":actions" }

// NotClosed is the index of breakers that are not closed, or held: a sorted set, score = ms of the last transition.
func (k Keys) NotClosed() string { return k.Prefix + ":notclosed" }

// Stream has the newest 10,000 or so events of all agents.
func (k Keys) Stream() string { return k.Prefix + ":stream" }

// Audit has the newest 100,000 or so manual actions on all agents.
func (k Keys) Audit() string { return k.Prefix + ":audit" }

// AuditCopy is what will take the place of Audit: the audit with the entries of a backup. On a Cluster it has the same
// slot.
func (k Keys) AuditCopy() string {
	if k.Cluster {
		return k.Prefix + ":{" + k.Audit() + "}.restore"
	}
	return k.Audit() + ".restore"
}

// Sweeper is the replica that corrects NotClosed now.
func (k Keys) Sweeper() string { return k.Prefix + ":sweeper" }

// Reset is the replica that puts back what a Redis lost whose data now has this identity.
func (k Keys) Reset(born string) string {
	sum := sha256.Sum256([]byte(born))
	return k.Prefix + ":reset." + hex.EncodeToString(sum[:8])
}

// Agents is the index of agents: a sorted set, score = last seen in seconds.
func (k Keys) Agents() string { return k.Prefix + ":agents" }

// Overrides is a number that every change of an override or a profile increments.
func (k Keys) Overrides() string { return k.Prefix + ":overrides" }

// Replicas are the heartbeats: a sorted set, score = last heartbeat in ms.
func (k Keys) Replicas() string { return k.Prefix + ":replicas" }

// Replica is what a replica says of itself: JSON, which expires. The key has two parts only.
func (k Keys) Replica(id string) string { return k.Prefix + ":replica." + id }

// Latency is how long the calls took that a replica has made: JSON, which expires. The key has two parts only.
func (k Keys) Latency(id string) string { return k.Prefix + ":latency." + id }

// Fleet is the fleet's gate: a hash.
func (k Keys) Fleet() string { return k.Prefix + ":fleet" }

// PermitKey is what signs permits that go over HTTP: a hash.
func (k Keys) PermitKey() string { return k.Prefix + ":permit_key" }

// Edges are the calls of one agent by another that were seen: a hash, parent>agent -> when, in ms.
func (k Keys) Edges() string { return k.Prefix + ":edges" }

// Workflows are the definitions made through the API: a hash, id -> JSON, and # with the id -> its entry in lists,
// JSON. The key has two parts only, as those of executions have, so that it is no agent's.
func (k Keys) Workflows() string { return k.Prefix + ":workflows" }

// Execution is one finished execution of a workflow, JSON.
func (k Keys) Execution(id string) string { return k.Prefix + ":execution." + id }

// Executions are the ids of the executions that are kept: a list, newest first.
func (k Keys) Executions() string { return k.Prefix + ":executions" }

// Webhook is what the fleet keeps of a webhook, whose name has no colon: a hash. The key has two parts only.
func (k Keys) Webhook(name string) string { return k.Prefix + ":webhook." + name }

// Reminder is the replica that says once, for the fleet, what comes with the time: that a hold ends soon, that the gate
// is over, that a replica is silent. of says of what, and sinceMs tells one time from the next.
func (k Keys) Reminder(of string, sinceMs int64) string {
	sum := sha256.Sum256([]byte(of + " " + strconv.FormatInt(sinceMs, 10)))
	return k.Prefix + ":reminder." + hex.EncodeToString(sum[:8])
}

// Events is the channel on which transitions and manual actions are published.
func (k Keys) Events() string { return k.Prefix + ":events" }

// born is the identity of the data of one server, or of a Cluster's master that serves this key's slot.
func (k Keys) born(n int) string {
	if !k.Cluster {
		return k.Prefix + ":born"
	}
	return k.Prefix + ":born.{" + strconv.Itoa(n) + "}"
}

// ping is written to see whether writes are taken.
func (k Keys) ping() string { return k.Prefix + ":ping" }

// StatePattern matches every agent's :state, for the repair of the index.
func (k Keys) StatePattern() string { return k.Prefix + ":*:state" }

// AgentOf takes the agent's name out of a :state key; "" if it is none of this prefix.
func (k Keys) AgentOf(stateKey string) string {
	name, ok := strings.CutPrefix(stateKey, k.Prefix+":")
	name, ok2 := strings.CutSuffix(name, ":state")
	if !ok || !ok2 {
		return ""
	}
	if k.Cluster {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "{"), "}")
	}
	return name
}
