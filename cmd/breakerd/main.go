// Command breakerd is the circuit breaker as an HTTP service.
package main

import (
	"context"
	"os"

	"github.com/breakerd/breakerd/internal/app"
)

func main() {
	os.Exit(app.Breakerd().Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
