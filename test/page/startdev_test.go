package page_test

import (
	"flag"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

var update = flag.Bool("update", false, "write docs/page.png anew")

// atPage finds the page's address in what start-dev prints.
var atPage = regexp.MustCompile(`http://\S+/ui/`)

// TestStartDev_ShowsAnOpenBreakerWithinTenSeconds, as a newcomer sees it; README's picture is made by this test.
func TestStartDev_ShowsAnOpenBreakerWithinTenSeconds(t *testing.T) {
	program := filepath.Join(t.TempDir(), "breakerctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/breakerctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := newChromiumTab(desk); err != nil { // a newcomer's browser runs already
		t.Fatal(err)
	}
	began := time.Now()
	dev := testkit.Run(t, []string{
		program, "server", "start-dev", "--listen", "127.0.0.1:0", "--bridge-listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0",
	}, os.Environ())
	var url string
	testkit.Eventually(t, "start-dev says where its page is", 30*time.Second, func() error {
		if url = atPage.FindString(dev.Stdout()); url == "" {
			return os.ErrNotExist
		}
		return nil
	})
	p := open(t, url, look{width: 1280, height: 640})
	p.sees("#sentence", "OPEN", 30*time.Second)
	p.sees("table.fleet tbody tr.open", "payments", 30*time.Second)
	took := time.Since(began)
	t.Logf("from start-dev to a breaker that is seen open: %s", took.Round(10*time.Millisecond))
	if took > 10*time.Second && !testing.Short() {
		t.Errorf("it took %s", took)
	}
	if *update {
		p.sees("#sentence", "next probe", 5*time.Second)
		time.Sleep(5 * time.Second)
		picture, err := p.picture()
		if err == nil {
			err = os.WriteFile("../../docs/page.png", picture, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dev.Signal(syscall.SIGINT)
	if code := dev.ExitCode(); code != 0 {
		t.Errorf("it ends with %d: %s", code, dev.Stderr())
	}
	p.quiet()
}

// TestPicture_IsInTheREADME, and small.
func TestPicture_IsInTheREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil || !strings.Contains(string(readme), "](docs/page.png)") {
		t.Error("README does not show docs/page.png", err)
	}
	f, err := os.Open("../../docs/page.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() > 150<<10 || info.Size() < 10<<10 {
		t.Error("docs/page.png has", info.Size(), "bytes", err)
	}
	if c, err := png.DecodeConfig(f); err != nil || c.Width != 1280 {
		t.Error(c, err)
	}
}
