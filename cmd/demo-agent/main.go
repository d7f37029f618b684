// Command demo-agent is an agent for demonstrations and tests: healthy, slow, flaky, failing, switchable while it runs.
package main

import (
	"context"
	"os"

	"github.com/breakerd/breakerd/internal/demo"
)

func main() {
	os.Exit(demo.Program().Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
