package breakergrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// settleTimeout bounds settling.
const settleTimeout = time.Second

// guard is the permit of one call. It is settled once.
type guard struct {
	agent      string
	permit     breaker.Permit
	endRenewal func() // of a probe's lease
	log        *slog.Logger
	settled    sync.Once
}

// enter acquires a permit. The call is to be made under the context that it returns.
func enter(
	ctx context.Context, m *breaker.Manager, agent string, log *slog.Logger,
) (*guard, context.Context, error) {
	inside, permit, err := m.Enter(ctx, agent)
	if err != nil {
		return nil, ctx, err
	}
	g := &guard{agent: agent, permit: permit, log: log, endRenewal: func() {}}
	if err := ctx.Err(); err != nil { // it ended while the store was asked: nothing was sent to the agent
		g.settle(ctx, ignored("cancelled"))
		return nil, ctx, err
	}
	g.endRenewal = permit.Keep(inside)
	return g, inside, nil
}

// asRefusal returns err as a refusal, if it is one.
func asRefusal(err error) (open *breaker.OpenError, refused bool) {
	return open, errors.As(err, &open)
}

// settle reports the outcome, even if ctx has ended: a cancelled call is settled too. Trouble with the store is logged.
// When settle returns, the call is settled, by whomever.
func (g *guard) settle(ctx context.Context, o breaker.Outcome) {
	g.settled.Do(func() {
		g.endRenewal()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer cancel()
		if _, err := g.permit.Settle(ctx, o); err != nil && g.log != nil {
			g.log.WarnContext(ctx, "outcome not recorded", "agent", g.agent, "outcome", o.Kind, "error", err)
		}
	})
}

// classified returns the outcome that the user's function gives, or the standard one if that panics or is bad.
func classified(log *slog.Logger, agent string, user, standard func() breaker.Outcome) breaker.Outcome {
	if o, ok := judged(log, agent, user); ok {
		return o
	}
	return standard()
}

func judged(log *slog.Logger, agent string, user func() breaker.Outcome) (o breaker.Outcome, ok bool) {
	defer recovered(log, agent, "Classify")
	o = user()
	err := o.Validate()
	if err != nil && log != nil {
		log.Error("outcome of Classify not taken", "agent", agent, "error", err)
	}
	return o, err == nil
}

// recovered is to be deferred around a call of the user's code: its panic must not cost a lease.
func recovered(log *slog.Logger, agent, function string) {
	if v := recover(); v != nil && log != nil {
		log.Error("panic recovered", "function", function, "agent", agent, "panic", fmt.Sprintf("%.500v", v))
		log.Debug("panic recovered", "function", function, "stack", fmt.Sprintf("%.3000s", debug.Stack()))
	}
}
