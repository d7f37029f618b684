package redisstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Keys names every key; no other file builds one. On Redis Cluster the agent stands in braces, so that its keys share a slot.
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

// Machine gives the seven keys of the machine, in the order in which the scripts take them.
func (k Keys) Machine(agent string) []string {
	return []string{
		k.agent(agent, "state"), k.agent(agent, "open_timestamp"), k.agent(agent, "calls"),
		k.agent(agent, "control"), k.agent(agent, "probes"), k.agent(agent, "log"), k.agent(agent, "history"),
	}
}

// withFleet adds the fleet's keys that the deciding scripts write; on a Cluster those are other slots', and the replica writes them.
func (k Keys) withFleet(keys []string) []string {
	if k.Cluster {
		return keys
	}
	return append(keys, k.NotClosed(), k.Stream(), k.Audit())
}

// Log is the agent's capped list of transitions and manual actions.
func (k Keys) Log(agent string) string { return k.agent(agent, "log") }

// Quarantine is the agent's capped list of failed and refused calls.
func (k Keys) Quarantine(agent string) string { return k.agent(agent, "quarantine") }

// Config is the agent's policy override, JSON.
func (k Keys) Config(agent string) string { return k.agent(agent, "config") }

// Profile is the agent's contact, url and labels, JSON.
func (k Keys) Profile(agent string) string { return k.agent(agent, "profile") }

// Report remembers one Idempotency-Key for ten minutes.
func (k Keys) Report(agent, id string) string {
	sum := sha256.Sum256([]byte(id))
	return k.agent(agent, "report:"+hex.EncodeToString(sum[:16]))
}

// Replay remembers one replayed batch until none of its buckets counts [B26].
func (k Keys) Replay(agent, token string) string { return k.agent(agent, "replay."+token) }

// NotClosed is the index of breakers that are not closed, or held: a sorted set, score = ms of the last transition.
func (k Keys) NotClosed() string { return k.Prefix + ":notclosed" }

// Stream has the newest 10,000 or so events of all agents, Audit the newest 100,000 or so that a person brought about.
func (k Keys) Stream() string { return k.Prefix + ":stream" }

// Audit is described at Stream.
func (k Keys) Audit() string { return k.Prefix + ":audit" }

// Agents is the index of agents: a sorted set, score = last seen in seconds.
func (k Keys) Agents() string { return k.Prefix + ":agents" }

// Replicas are the heartbeats: a sorted set, score = last heard of in ms.
func (k Keys) Replicas() string { return k.Prefix + ":replicas" }

// Workflows are the definitions made through the API: a hash, id -> JSON, and # with the id -> what lists show of it, JSON. Like
// Execution's, the key has two parts only, so that it is no agent's.
func (k Keys) Workflows() string { return k.Prefix + ":workflows" }

// Execution is one finished execution of a workflow, JSON.
func (k Keys) Execution(id string) string { return k.Prefix + ":execution." + id }

// Executions are the ids of the executions kept: a list, newest first.
func (k Keys) Executions() string { return k.Prefix + ":executions" }

// Events is the channel on which transitions and manual actions are told.
func (k Keys) Events() string { return k.Prefix + ":events" }

// StatePattern matches every agent's :state, for the repair of the index.
func (k Keys) StatePattern() string { return k.Prefix + ":*:state" }

// AgentOf takes the agent out of a :state key; "" if it is none of ours.
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
