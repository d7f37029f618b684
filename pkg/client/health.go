package client

import (
	"context"
	"encoding/json"
)

// alone is a question about one replica. It goes to the server that answered last, and to no other: to ask about a
// certain one, make a client of it alone.
func alone(path string) call {
	c := get(path)
	c.alone = true
	return c
}

// Live asks whether the process answers. Redis is not asked.
func (a api) Live(ctx context.Context) (out Live, err error) {
	_, err = a.do(ctx, alone("/livez"), &out)
	return out, err
}

// Ready asks whether a replica wants calls; else the error has the code not_ready.
func (a api) Ready(ctx context.Context) (out Ready, err error) {
	_, err = a.do(ctx, alone("/readyz"), &out)
	return out, err
}

// Health asks how well a replica is. That it is unhealthy is no error.
func (a api) Health(ctx context.Context) (out Health, err error) {
	_, err = a.do(ctx, alone("/health"), &out)
	return out, err
}

// HealthChecks is Health, part by part.
func (a api) HealthChecks(ctx context.Context) (out Checks, err error) {
	_, err = a.do(ctx, alone("/health/checks"), &out)
	return out, err
}

// Metrics reads the Prometheus metrics of a replica.
func (a api) Metrics(ctx context.Context) (string, error) {
	got, err := a.do(ctx, alone("/metrics"), nil)
	return string(got.body), err
}

// OpenAPI reads the document of the API.
func (a api) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	got, err := a.do(ctx, get("/openapi.json"), nil)
	return got.body, err
}
