// Command bridge calls agents behind circuit breakers: a reverse proxy and a workflow engine.
package main

import (
	"context"
	"os"

	"github.com/breakerd/breakerd/internal/app"
)

func main() {
	os.Exit(app.Bridge().Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
