// Package httpapi is breakerd's HTTP API (docs: /openapi.json): the data verbs acquire, report, renew and batch, the operator's
// verbs under /v1/admin, health, and the mount of the metrics.
//
// What comes in is taken apart in this order, and nothing later sees what an earlier step refused: the path and the agent's name
// in it, as sent, before any mux (guard.go); another site's page (guard.go); the route; the body, strictly (body.go); the values
// (values.go). Every answer that is not a 2xx is a problem+json with a stable code (problem.go).
//
// It sees breakers through breaker.Manager and everything else through the interfaces of options.go.
package httpapi
