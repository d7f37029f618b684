// Package e2e tests the real binaries (breakerd, bridge, demo-agent) from outside: real processes, Redis servers, curl,
// jq, redis-cli.
//
// Every process listens on a free loopback port of its own, or in a network namespace of its own where a document names
// the port, and ends with its test.
package e2e
