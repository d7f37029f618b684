package health

import "maps"

// Figure names a number that a check goes by. The metrics have it under that name behind "circuit_breaker_".
type Figure string

// The figures. What a check does not know, it does not have.
const (
	RedisMemory       Figure = "redis_memory_ratio"
	RedisClients      Figure = "redis_clients_ratio"
	ReplicasAlive     Figure = "replicas_alive"
	ReplicasMissing   Figure = "replicas_missing"
	ReplicasDegraded  Figure = "replicas_degraded"
	ReplicaPolicies   Figure = "replica_policies"
	GateBehind        Figure = "gate_replicas_behind"
	CertificateEnd    Figure = "certificate_not_after_timestamp_seconds"
	HoldAge           Figure = "hold_without_end_age_seconds"
	OverrideAge       Figure = "override_without_end_age_seconds"
	OverridesNotValid Figure = "overrides_not_in_force"
)

// Figures are all figures, each with what it says.
func Figures() map[Figure]string {
	return map[Figure]string{
		RedisMemory:       "Share of maxmemory in use, of the fullest Redis server that has a limit.",
		RedisClients:      "Share of maxclients in use, of the fullest Redis server.",
		ReplicasAlive:     "Replicas whose heartbeats are heard.",
		ReplicasMissing:   "Replicas that went within ten minutes without saying that they end.",
		ReplicasDegraded:  "Replicas that are alive and answer from their own memory.",
		ReplicaPolicies:   "Different policies among the replicas that are alive; 1 is right.",
		GateBehind:        "Replicas that are alive and do not obey the fleet's gate as this one knows it.",
		CertificateEnd:    "When the certificate of the listeners ends, in seconds since 1970.",
		HoldAge:           "Age of the oldest hold that has no end; 0 without one.",
		OverrideAge:       "Age of the oldest override that has no end; 0 without one.",
		OverridesNotValid: "Overrides that are not in force, because they are not valid.",
	}
}

// With returns c with a figure.
func (c Check) With(f Figure, value float64) Check {
	figures := maps.Clone(c.Figures)
	if figures == nil {
		figures = map[Figure]float64{}
	}
	figures[f] = value
	c.Figures = figures
	return c
}
