package daemon

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
)

// manager is the service manager that started the process: systemd, or, if zero, none.
type manager struct {
	sockets  []*os.File               // opened for the program; each has its systemd name
	notify   func(state string) error // nil: nobody is told
	watchdog time.Duration            // how long it waits for WATCHDOG=1 before it ends the process; 0: for ever
}

// newManager reads what systemd says in the environment of the process. It can be called once: the sockets have one
// owner.
func newManager() (manager, error) {
	m := manager{sockets: activation.Files(true)}
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return m, nil
	}
	m.notify = func(state string) error {
		_, err := sd.SdNotify(false, state)
		return err
	}
	var err error
	m.watchdog, err = sd.SdWatchdogEnabled(false)
	return m, err
}

// tell sends the lines of one message to the manager. It may block: systemd reads from a queue.
func (h *host) tell(lines ...string) {
	if h.manager.notify == nil {
		return
	}
	if err := h.manager.notify(strings.Join(lines, "\n")); err != nil {
		h.log.Warn("systemd cannot be notified", "message", lines[0], "error", err)
	}
}

// tellReady says that the program serves at these URLs.
func (h *host) tellReady(urls []string) {
	h.tell(sd.SdNotifyReady, "STATUS=serves at "+strings.Join(urls, ", "))
}

// tellStopping says that the end has begun, and how long it may take: longer than TimeoutStopSec, if need be.
func (h *host) tellStopping() {
	drain := h.config.ShutdownDelay + h.config.ShutdownTimeout
	h.tell(sd.SdNotifyStopping, fmt.Sprintf("STATUS=stopping, calls have %v to end", drain),
		"EXTEND_TIMEOUT_USEC="+strconv.FormatInt((drain+rest).Microseconds(), 10))
}

// watch sends WATCHDOG=1 at half of the watchdog's time while the listener of the first URL answers /livez. Once the
// program is stopping, which is bounded in time, it does not ask. The function that it returns ends it.
func (h *host) watch(urls []string) (end func()) {
	if h.manager.watchdog == 0 || len(urls) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(h.manager.watchdog / 2)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			if err := h.alive(ctx, urls[0]); err != nil && ctx.Err() == nil && h.ready(ctx) == nil {
				h.log.Error("the listener does not answer: systemd is given no sign of life", "error", err)
				continue
			}
			h.tell(sd.SdNotifyWatchdog)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// alive asks the listener, in half of the time between two signs of life: a late answer is in time for the watchdog.
func (h *host) alive(ctx context.Context, url string) error {
	if h.ready(ctx) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.manager.watchdog/4)
	defer cancel()
	scheme, address, _ := strings.Cut(url, "://")
	return reach(ctx, address, "/livez", scheme == "https")
}
