// Package httpapi is the HTTP API of both programs, each with its document at /openapi.json and a page to read it at /docs.
// breakerd's (New): the data verbs acquire, report, renew and batch, the gate for proxies, the operator's verbs under /v1/admin. The
// bridge's (NewBridge): agents, workflows and executions under /api/v1; /agents/… goes to the gateway untouched. Both: health, and the
// mount of the metrics.
//
// What comes in is taken apart in this order, and nothing later sees what an earlier step refused: the path and the name
// in it, as sent, before any mux (guard.go); another site's page (guard.go); the route; the body, strictly (body.go); the values
// (values.go). Every answer that is not a 2xx is a problem+json with a stable code (problem.go).
//
// It sees breakers through breaker.Manager and everything else through the interfaces of options.go and bridge.go.
package httpapi
