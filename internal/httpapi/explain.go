package httpapi

// machineCauses are the causes of an opening that the machine itself finds, and of an external edit.
func machineCauses() []string {
	return []string{
		"consecutive_failures", "failure_rate", "slow_rate", "probe_failed", "upstream_retry_after", "hand_edit",
	}
}
