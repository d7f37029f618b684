package client

import (
	"context"
	"iter"
	"strconv"
	"time"
)

const (
	admin     = "/v1/admin/circuit_breakers"
	adminOf   = admin + "/"
	agentsOf  = "/v1/admin/agents/"
	fleetPath = "/v1/admin/fleet"
	actions   = "/v1/admin/actions"
)

// ListQuery says which breakers are listed. Its zero value is all of them, those that are not closed first.
type ListQuery struct {
	States   []string          // CLOSED, OPEN, HALF_OPEN; nil: all
	Holds    []string          // open, closed, protected, any, none; nil: held or not
	Modes    []string          // enforce, observe, disabled: what their policy does; nil: all
	Ramping  bool              // only those that let calls return after they closed
	Override string            // any, invalid, none; "": overridden or not
	Labels   map[string]string // which all of them have
	Reason   string            // what their reason contains, in either case
	Name     string            // what their name contains, in either case
	Sort     string            // state, agent_id, worst, opened_at, timeout_until, failure_rate; "": state
	Include  []string          // window, profile, override, seen, series: what else is shown
	Limit    int               // of a page, 1000 at most; 0: 1000
	Cursor   string            // NextCursor of the page before; "": the first page
}

// ListCircuitBreakers lists one page of breakers. [Client.AllCircuitBreakers] lists all pages.
func (c *Client) ListCircuitBreakers(ctx context.Context, q ListQuery) (out BreakerList, err error) {
	r := get(admin)
	r.query.add("state", q.States...)
	r.query.add("hold", q.Holds...)
	r.query.add("mode", q.Modes...)
	if q.Ramping {
		r.query.add("ramping", "true")
	}
	r.query.add("override", q.Override)
	for name, value := range q.Labels {
		r.query.add("label", name+"="+value)
	}
	r.query.add("reason", q.Reason)
	r.query.add("q", q.Name)
	r.query.add("sort", q.Sort)
	r.query.add("include", q.Include...)
	r.page(q.Limit, q.Cursor)
	_, err = c.do(ctx, r, &out)
	return out, err
}

// page adds what part of a list is wanted.
func (c *call) page(limit int, cursor string) {
	if limit != 0 {
		c.query.add("limit", strconv.Itoa(limit))
	}
	c.query.add("cursor", cursor)
}

// AllCircuitBreakers lists breakers page by page, beginning at q.Cursor. An error ends the list.
func (c *Client) AllCircuitBreakers(ctx context.Context, q ListQuery) iter.Seq2[ListEntry, error] {
	return pages(q.Cursor, func(cursor string) ([]ListEntry, string, error) {
		q.Cursor = cursor
		page, err := c.ListCircuitBreakers(ctx, q)
		return page.CircuitBreakers, page.NextCursor, err
	})
}

// pages lists what is on all pages.
func pages[T any](cursor string, read func(cursor string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for at := cursor; ; {
			page, next, err := read(at)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range page {
				if !yield(one, nil) {
					return
				}
			}
			if at = next; at == "" {
				return
			}
		}
	}
}

// GetCircuitBreaker shows one breaker, with its policy. An agent that is not known is [ErrNotFound].
func (c *Client) GetCircuitBreaker(ctx context.Context, agent string) (out BreakerDetail, err error) {
	_, err = c.do(ctx, get(adminOf, agent), &out)
	return out, err
}

// ExplainCircuitBreaker says why a breaker is as it is, why it does not open, and what happens next.
func (c *Client) ExplainCircuitBreaker(ctx context.Context, agent string) (out Explanation, err error) {
	_, err = c.do(ctx, get(adminOf, agent, "/explain"), &out)
	return out, err
}

// OpenCircuitBreaker holds a breaker open: it bans the agent, also one that is not known yet [B17]. A hold of another
// actor is an [ErrConflict] without Force.
func (c *Client) OpenCircuitBreaker(ctx context.Context, agent string, in HoldRequest) (out ForceReply, err error) {
	_, err = c.do(ctx, post(in, adminOf, agent, "/open").by(), &out)
	return out, err
}

// CloseCircuitBreaker holds a breaker closed: it admits and records every call, and never opens [B17].
func (c *Client) CloseCircuitBreaker(ctx context.Context, agent string, in HoldRequest) (out ForceReply, err error) {
	_, err = c.do(ctx, post(in, adminOf, agent, "/close").by(), &out)
	return out, err
}

// ResetCircuitBreaker closes a breaker, or lets probes through, and lifts a hold [B18].
func (c *Client) ResetCircuitBreaker(ctx context.Context, agent string, in ResetRequest) (out ForceReply, err error) {
	_, err = c.do(ctx, post(in, adminOf, agent, "/reset").by(), &out)
	return out, err
}

// ReleaseCircuitBreaker ends a hold as its own end would: an open one in half-open, a closed one in fresh closed [B17].
// Without a hold the error is [breaker.ErrNotHeld], with a protected one and without Force [breaker.ErrHoldProtected].
func (c *Client) ReleaseCircuitBreaker(
	ctx context.Context, agent string, in ReleaseRequest,
) (out ForceReply, err error) {
	_, err = c.do(ctx, post(in, adminOf, agent, "/release").by(), &out)
	return out, err
}

// GetHistory shows what was called of an agent in the last so many minutes; 0: in all that are kept.
func (c *Client) GetHistory(ctx context.Context, agent string, minutes int) (out History, err error) {
	r := get(adminOf, agent, "/history")
	if minutes != 0 {
		r.query.add("minutes", strconv.Itoa(minutes))
	}
	_, err = c.do(ctx, r, &out)
	return out, err
}

// DeleteCircuitBreaker forgets an agent: its breaker, override, profile and history. Without force, a protected hold is
// [breaker.ErrHoldProtected].
func (c *Client) DeleteCircuitBreaker(ctx context.Context, agent string, force bool) error {
	r := remove(adminOf, agent)
	if force {
		r.query.add("force", "true")
	}
	_, err := c.do(ctx, r, nil)
	return err
}

// ListEvents shows the newest events of one agent.
func (c *Client) ListEvents(ctx context.Context, agent string) (out AgentEvents, err error) {
	_, err = c.do(ctx, get(adminOf, agent, "/events"), &out)
	return out, err
}

// GetConfig reads an agent's policy override, with its ETag. If there is none, the error is [ErrNotFound].
func (c *Client) GetConfig(ctx context.Context, agent string) (out Override, err error) {
	got, err := c.do(ctx, get(adminOf, agent, "/config"), &out)
	out.ETag = got.Get("ETag")
	return out, err
}

// PutConfig sets an agent's policy override as a whole, if it still has the etag; "": if there is none yet; "*": if
// there is one. Else the error is [ErrConflict].
func (c *Client) PutConfig(ctx context.Context, agent string, in Override, etag string) (out Override, err error) {
	got, err := c.do(ctx, put(in, adminOf, agent, "/config").expecting(etag), &out)
	out.ETag = got.Get("ETag")
	return out, err
}

// expecting has a document changed only if it has the etag; "": only if there is none.
func (c call) expecting(etag string) call {
	if etag == "" {
		return c.with("If-None-Match", "*")
	}
	return c.with("If-Match", etag)
}

// DeleteConfig deletes an agent's policy override, if it still has the etag; "*": if there is one.
func (c *Client) DeleteConfig(ctx context.Context, agent, etag string) error {
	_, err := c.do(ctx, remove(adminOf, agent, "/config").with("If-Match", etag), nil)
	return err
}

// GetAgent shows an agent's profile, with its ETag, and how its breaker stands.
func (c *Client) GetAgent(ctx context.Context, agent string) (out Agent, err error) {
	got, err := c.do(ctx, get(agentsOf, agent), &out)
	out.ETag = got.Get("ETag")
	return out, err
}

// PutAgent sets an agent's profile as a whole, if it still has the etag, as [Client.PutConfig] does.
func (c *Client) PutAgent(ctx context.Context, agent string, in Profile, etag string) (out Agent, err error) {
	got, err := c.do(ctx, put(in, agentsOf, agent).expecting(etag), &out)
	out.ETag = got.Get("ETag")
	return out, err
}

// ListQuarantine shows an agent's newest failed and refused calls, so many at most; 0: 50.
func (c *Client) ListQuarantine(ctx context.Context, agent string, limit int) (out Quarantine, err error) {
	r := get("/v1/admin/quarantine")
	r.query.add("agent_id", agent)
	r.page(limit, "")
	_, err = c.do(ctx, r, &out)
	return out, err
}

// GetFleet shows the fleet's gate [B24].
func (c *Client) GetFleet(ctx context.Context) (out Fleet, err error) {
	got, err := c.do(ctx, get(fleetPath), &out)
	out.ETag = got.Get("ETag")
	return out, err
}

// PutFleet stops every call, sheds a part of them, or recovers, if the gate still has the etag; "": whatever stands.
// It waits a second at most for the replicas.
func (c *Client) PutFleet(ctx context.Context, in FleetRequest, etag string) (out Fleet, err error) {
	got, err := c.do(ctx, put(in, fleetPath).with("If-Match", etag), &out)
	out.ETag = got.Get("ETag")
	return out, err
}

// DeleteFleet lifts the fleet's gate at once, if it still has the etag; "": whatever stands.
func (c *Client) DeleteFleet(ctx context.Context, etag string) (out Fleet, err error) {
	_, err = c.do(ctx, remove(fleetPath).with("If-Match", etag), &out)
	return out, err
}

// PostAction changes the breakers of many agents. A large action goes on after the answer, at whichever replica;
// [Client.GetAction] shows what has become of it. More agents than in.Expect are an [ErrConflict], and nothing is done.
func (c *Client) PostAction(ctx context.Context, in ActionRequest) (out Action, err error) {
	_, err = c.do(ctx, post(in, actions).by(), &out)
	return out, err
}

// GetAction shows what has become of an action; the fleet keeps it for a day.
func (c *Client) GetAction(ctx context.Context, id string) (out Action, err error) {
	_, err = c.do(ctx, get(actions+"/", id), &out)
	return out, err
}

// ListReplicas shows every replica, by its heartbeat.
func (c *Client) ListReplicas(ctx context.Context) (out ReplicaList, err error) {
	_, err = c.do(ctx, get("/v1/admin/replicas"), &out)
	return out, err
}

// ListTokens shows who is in the AUTH_FILE of a replica, and what he may do. It needs the role admin.
func (c *Client) ListTokens(ctx context.Context) (out TokenList, err error) {
	_, err = c.do(ctx, get("/v1/admin/tokens"), &out)
	return out, err
}

// FindingQuery says where to look for what is wrong.
type FindingQuery struct {
	Deep   bool   // in the keys of every agent, too
	Limit  int    // agents of a page, 1000 at most; 0: 200
	Cursor string // NextCursor of the page before; "": the first page
}

// ListFindings looks for what is wrong in the fleet. Of a deep look it shows one page; [Client.AllFindings] shows all.
func (c *Client) ListFindings(ctx context.Context, q FindingQuery) (out FindingList, err error) {
	r := get("/v1/admin/verify")
	if q.Deep {
		r.query.add("deep", "1")
	}
	r.page(q.Limit, q.Cursor)
	_, err = c.do(ctx, r, &out)
	return out, err
}

// AllFindings shows what is wrong in the fleet, on this page and those behind it. It ends with the first error.
func (c *Client) AllFindings(ctx context.Context, q FindingQuery) iter.Seq2[Finding, error] {
	return pages(q.Cursor, func(cursor string) ([]Finding, string, error) {
		q.Cursor = cursor
		page, err := c.ListFindings(ctx, q)
		return page.Findings, page.NextCursor, err
	})
}

// ListWebhooks shows the webhooks of a replica's file: who sends, how far, and what was given up.
func (c *Client) ListWebhooks(ctx context.Context) (out WebhookList, err error) {
	_, err = c.do(ctx, get("/v1/admin/webhooks"), &out)
	return out, err
}

// GetSummary says what is wrong in the fleet, in counts.
func (c *Client) GetSummary(ctx context.Context) (out Summary, err error) {
	_, err = c.do(ctx, get("/v1/admin/summary"), &out)
	return out, err
}

// LatencyQuery says whose latency is listed. Its zero value is that of all agents, the slowest first.
type LatencyQuery struct {
	Agent     string        // "": all
	Threshold time.Duration // what their 99th percentile is at least, with Sort average their average
	Sort      string        // p99, average, calls: the greatest first; "": p99
	Limit     int           // 1000 at most; 0: 1000
}

// ListLatency lists agents by how long their calls took in about the last ten minutes, on all replicas.
func (c *Client) ListLatency(ctx context.Context, q LatencyQuery) (out LatencyList, err error) {
	r := get("/v1/admin/latency")
	r.query.add("agent", q.Agent)
	if q.Threshold != 0 {
		r.query.add("threshold_ms", strconv.FormatFloat(q.Threshold.Seconds()*1000, 'f', -1, 64))
	}
	r.query.add("sort", q.Sort)
	r.page(q.Limit, "")
	_, err = c.do(ctx, r, &out)
	return out, err
}

// ListCascades says which agent failed first, and which ones that call it followed, in the last time, from a second to
// a day; 0: five minutes.
func (c *Client) ListCascades(ctx context.Context, last time.Duration) (out Cascades, err error) {
	r := get("/v1/admin/cascades")
	if last != 0 {
		r.query.add("last", last.String())
	}
	_, err = c.do(ctx, r, &out)
	return out, err
}
