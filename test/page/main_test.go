package page_test

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	endChromium()
	endFirefox()
	os.Exit(code)
}
