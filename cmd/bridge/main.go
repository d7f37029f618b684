// Command bridge calls agents behind circuit breakers: a reverse proxy and a workflow engine.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/breakerd/breakerd/internal/app"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	return app.Bridge(ctx, args, environ, stdout, stderr, signals)
}
