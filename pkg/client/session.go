package client

import "context"

// Whoami says who makes the client's requests, and with which role.
func (c *Client) Whoami(ctx context.Context) (out Caller, err error) {
	_, err = c.do(ctx, get("/v1/whoami"), &out)
	return out, err
}

const session = "/v1/session"

// OpenSession opens a session by the client's token, for a page: cookie is what its server sets in a browser. The
// client itself needs none.
func (c *Client) OpenSession(ctx context.Context) (out Caller, cookie string, err error) {
	got, err := c.do(ctx, post(nil, session), &out)
	return out, got.Get("Set-Cookie"), err
}

// CloseSession returns the cookie that has a browser forget its session.
func (c *Client) CloseSession(ctx context.Context) (cookie string, err error) {
	got, err := c.do(ctx, remove(session), nil)
	return got.Get("Set-Cookie"), err
}
