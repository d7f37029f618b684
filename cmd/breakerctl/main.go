// Command breakerctl shows and steers the breakers of a fleet.
package main

import (
	"context"
	"os"

	"github.com/breakerd/breakerd/internal/ctl"
)

func main() {
	streams := ctl.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(ctl.Run(context.Background(), os.Args[1:], os.Environ(), streams))
}
