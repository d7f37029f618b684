// Package monitoring holds tests only. They check the rules of Prometheus with promtool, and fire each alert for real:
// a fleet gets the fault, a Prometheus scrapes it and goes by the rules with a shorter clock, an Alertmanager delivers,
// and the commands of the alert's runbook show the fault and mend it.
package monitoring
