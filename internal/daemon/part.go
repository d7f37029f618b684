package daemon

import (
	"context"
	"io"
	"net"

	"github.com/breakerd/breakerd/internal/logging"
)

// Part is how a program runs as one of several in a process.
type Part struct {
	Environ   []string
	Stderr    io.Writer                   // takes whole lines, also from other parts
	Listeners map[string]*net.TCPListener // by the variable that they stand for; RunPart closes them
}

// RunPart runs the program until ctx ends, and gives the exit code, as [Program.Run] does. It leaves to whoever runs
// the parts what a process has only once: its signals, its default logger, and what systemd has handed to it.
func (p Program) RunPart(ctx context.Context, part Part) int {
	stderr := logging.NewQueue(part.Stderr)
	defer stderr.Close(lastLines)
	sockets := inherited(part.Listeners)
	defer func() {
		for _, l := range sockets {
			_ = l.Close() // it is closed already if the program served there
		}
	}()
	c, err := p.Configure(sockets.environ(part.Environ))
	if err != nil {
		return badConfig(stderr, p.Name, err)
	}
	h := newHost(p.Name, c, stderr.Logger(c.LogLevel, c.LogFormat), io.Discard, stderr)
	h.sockets = sockets
	return h.run(ctx, nil)
}
