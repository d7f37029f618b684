package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/testkit"
)

const (
	root       = "../.."
	rulesDir   = root + "/deploy/monitoring/prometheus/rules"
	pagesDir   = root + "/docs/runbooks"
	stepWithin = 90 * time.Second // of an alert to come or to go, on a busy machine
)

// binaries is where TestMain has built the programs.
var binaries string

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	err := flag.Set("test.parallel", "16") // on any number of cores, since fleets mostly wait; -parallel on the command line wins
	dir, dirErr := os.MkdirTemp("", "breakerd-monitoring")
	if err = errors.Join(err, dirErr); err == nil {
		binaries = dir
		var out []byte
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/breakerd", "./cmd/bridge", "./cmd/breakerctl")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0") // as make build does, whose cache it shares
		if out, err = build.CombinedOutput(); err != nil {
			err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// watch is a Prometheus, its Alertmanager, and who is told.
type watch struct {
	prometheus, alertmanager string // URLs
	targets                  string // the directory of targets

	mu     sync.Mutex
	status map[string]string // of alerts: firing or resolved; see key
	told   map[string]bool   // alerts that fired since forget
}

// notice is what an Alertmanager posts.
type notice struct {
	Alerts []struct {
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
	} `json:"alerts"`
}

// key names an alert of a fleet.
func key(fleet, alert, severity string) string { return fleet + " " + alert + " " + severity }

func startWatch(t *testing.T) *watch {
	t.Helper()
	w := &watch{targets: t.TempDir(), status: map[string]string{}, told: map[string]bool{}}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("what the Alertmanager posts is no JSON: %v", err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, a := range n.Alerts {
			k := key(a.Labels["fleet"], a.Labels["alertname"], a.Labels["severity"])
			w.status[k] = a.Status
			w.told[k] = w.told[k] || a.Status == "firing"
		}
	}))
	t.Cleanup(receiver.Close)

	dir := t.TempDir()
	config := read(t, root+"/deploy/monitoring/alertmanager/alertmanager.yml")
	config = regexp.MustCompile(`group_wait: \S+`).ReplaceAllString(config, "group_wait: 100ms")
	config = regexp.MustCompile(`group_interval: \S+`).ReplaceAllString(config, "group_interval: 1s")
	config = strings.ReplaceAll(config, "http://127.0.0.1:9099", receiver.URL)
	file := write(t, dir, "alertmanager.yml", config)
	w.alertmanager = server(t, "/-/ready", func(addr string) []string {
		return []string{
			"prometheus-alertmanager", "--config.file=" + file, "--storage.path=" + filepath.Join(dir, "am"),
			"--web.listen-address=" + addr, "--cluster.listen-address=", "--log.level=warn",
		}
	})

	rules := filepath.Join(dir, "rules")
	if err := os.Mkdir(rules, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"records.yml", "alerts.yml"} {
		write(t, rules, name, faster(read(t, filepath.Join(rulesDir, name))))
	}
	file = write(t, dir, "prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
  - job_name: fleets
    file_sd_configs: [{files: [%q], refresh_interval: 1s}]
    tls_config: {insecure_skip_verify: true}
`, rules+"/*.yml", strings.TrimPrefix(w.alertmanager, "http://"), w.targets+"/*.json"))
	w.prometheus = server(t, "/-/ready", func(addr string) []string {
		return []string{
			"prometheus", "--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"),
			"--web.listen-address=" + addr, "--log.level=warn", "--rules.alert.resend-delay=5s",
		}
	})
	return w
}

// The clock of the rules runs faster by this factor, within bounds that leave a window enough scrapes.
const fasterBy = 240

// faster shortens what a rule waits for and looks back on.
func faster(rules string) string {
	shorten := func(least, most time.Duration) func(string) string {
		return func(text string) string {
			m := regexp.MustCompile(`(\d+)([smhd])`).FindStringSubmatch(text)
			n, _ := strconv.Atoi(m[1])
			unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
			seconds := int(min(max(time.Duration(n)*unit/fasterBy, least), most).Seconds())
			return strings.Replace(text, m[0], strconv.Itoa(seconds)+"s", 1)
		}
	}
	for _, c := range []struct {
		pattern     string
		least, most time.Duration
	}{
		{`\[\d+[mhd]\]`, 10 * time.Second, 30 * time.Second},
		{`offset \d+m`, 12 * time.Second, time.Minute},
		{`for: \d+[smh]`, time.Second, time.Minute},
	} {
		rules = regexp.MustCompile(c.pattern).ReplaceAllStringFunc(rules, shorten(c.least, c.most))
	}
	return strings.ReplaceAll(rules, ", 7 * 86400)", fmt.Sprintf(", %d)", 7*86400/fasterBy))
}

// server starts a server of others on a free port, and waits until path is answered.
func server(t *testing.T, path string, argv func(addr string) []string) (url string) {
	t.Helper()
	addr := testkit.FreeAddress(t)
	p := testkit.Run(t, argv(addr), []string{"PATH=" + os.Getenv("PATH")})
	url = "http://" + addr
	testkit.Eventually(t, path+" of "+url, stepWithin, func() error {
		if !p.Running() {
			t.Fatalf("%q ended\n%s", argv(addr), p.Stderr())
		}
		_, err := get(t, url+path)
		return err
	})
	return url
}

// get returns the body of a 200.
func get(t *testing.T, url string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "curl", "-sSfkm", "10", url).Output()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		err = fmt.Errorf("%s: %w: %s", url, err, exit.Stderr)
	}
	return string(out), err
}

// query asks Prometheus of the last minutes, and returns how many series the answer has.
func (w *watch) query(t *testing.T, expr string) (series int, err error) {
	t.Helper()
	now := time.Now().Unix()
	out, err := exec.CommandContext(t.Context(), "curl", "-sSm", "10", "-G", w.prometheus+"/api/v1/query_range",
		"--data-urlencode", "query="+expr, "-d", fmt.Sprintf("start=%d&end=%d&step=5", now-600, now)).Output()
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []any `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return 0, err
	}
	if answer.Error != "" {
		return 0, errors.New(answer.Error)
	}
	return len(answer.Data.Result), nil
}

// forget forgets that a person was told of an alert.
func (w *watch) forget(k string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.told, k)
}

// await waits until a person was told of an alert and, if over, that it is over.
func (w *watch) await(t *testing.T, k string, over bool) {
	t.Helper()
	testkit.Eventually(t, "the message of "+k, stepWithin, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.told[k] || over && w.status[k] != "resolved" {
			return fmt.Errorf("told: %t, now %q", w.told[k], w.status[k])
		}
		return nil
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	return path
}

// page is a runbook's page.
type page struct {
	title    string
	severity string // as its second line says it
	headings []string
	commands map[string][]string // by heading
}

func readPage(t *testing.T, alert string) (p page) {
	t.Helper()
	text := read(t, filepath.Join(pagesDir, alert+".md"))
	p.commands = map[string][]string{}
	lines := strings.Split(text, "\n")
	p.title, p.severity = strings.TrimPrefix(lines[0], "# "), strings.TrimSuffix(lines[2], ".")
	heading := ""
	for i := 0; i < len(lines); i++ {
		switch {
		case strings.HasPrefix(lines[i], "## "):
			heading = strings.TrimPrefix(lines[i], "## ")
			p.headings = append(p.headings, heading)
		case lines[i] == "```sh runbook":
			end := i + slices.Index(lines[i:], "```")
			p.commands[heading] = append(p.commands[heading], strings.Join(lines[i+1:end], "\n"))
			i = end
		}
	}
	return p
}
