package page_test

import (
	"flag"
	"os"
	"testing"
	"time"
)

var watched = flag.Duration("watched", 20*time.Second, "for how long the page is watched for growth")

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		soon *= 4
	}
	code := m.Run()
	endChromium()
	endFirefox()
	os.Exit(code)
}
