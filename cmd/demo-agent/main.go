// Command demo-agent is an agent for demonstrations and tests: healthy, slow, flaky, failing, switchable while it runs.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/breakerd/breakerd/internal/demo"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	return demo.Run(ctx, args, environ, stdout, stderr, signals)
}
