package breakerhttp

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/breakerd/breakerd/pkg/breaker"
)

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
