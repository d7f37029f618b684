package monitoring

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rule is one rule of Prometheus.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// rulesIn reads the rules of a file.
func rulesIn(t *testing.T, path string) (rules []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, path)), &file); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

func alertRules(t *testing.T) []rule {
	t.Helper()
	return rulesIn(t, filepath.Join(rulesDir, "alerts.yml"))
}

var metricName = regexp.MustCompile(`\b(?:circuit_breaker|bridge)_[a-z0-9_]+`)

// metricsOf lists the metrics of our programs that the files of a directory name.
func metricsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", dir, err)
	}
	var names []string
	for _, file := range files {
		text := regexp.MustCompile(`[a-z_]+:[a-z0-9_]+:[a-z0-9_]+`).ReplaceAllString(read(t, file), "") // what rules record
		names = append(names, metricName.FindAllString(text, -1)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// promtool runs promtool, which must be content.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

func TestRules_PromtoolIsContent(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Glob(rulesDir + "/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, rules...)...)
	promtool(t, "test", "rules", filepath.Join(rulesDir, "../tests/alerts.yml"))
	promtool(t, "check", "config", "--syntax-only", filepath.Join(rulesDir, "../prometheus.yml"))
	if out, err := exec.CommandContext(t.Context(), "amtool", "check-config", root+"/deploy/monitoring/alertmanager/alertmanager.yml").CombinedOutput(); err != nil {
		t.Errorf("amtool: %v\n%s", err, out)
	}
}

// P0 and P1 go to the person on call, all else is collected, and agents that flap are told of together.
func TestAlertmanager_RoutesBySeverity(t *testing.T) {
	t.Parallel()
	config := root + "/deploy/monitoring/alertmanager/alertmanager.yml"
	for _, r := range alertRules(t) {
		want := "tickets"
		if s := r.Labels["severity"]; s == "P0" || s == "P1" {
			want = "on-call"
		}
		out, err := exec.CommandContext(t.Context(), "amtool", "config", "routes", "test", "--config.file="+config,
			"--verify.receivers="+want, "severity="+r.Labels["severity"], "alertname="+r.Alert, "fleet=f", "agent=a").CombinedOutput()
		if err != nil {
			t.Errorf("%s of %s: %v\n%s", r.Alert, r.Labels["severity"], err, out)
		}
	}
	routes, err := exec.CommandContext(t.Context(), "amtool", "config", "routes", "show", "--config.file="+config).CombinedOutput()
	if err != nil || !strings.Contains(string(routes), "CircuitBreakerFlapping") {
		t.Errorf("%v\n%s", err, routes)
	}
}

// Each alert has labels that route it, a page, and a test in which it fires while another fleet nearly has the fault.
func TestRules_EachAlertIsComplete(t *testing.T) {
	t.Parallel()
	respond := map[string][2]string{"P0": {"15m", "2h"}, "P1": {"1h", "4h"}, "P2": {"4h", "24h"}, "P3": {"24h", "7d"}}
	tests := read(t, filepath.Join(rulesDir, "../tests/alerts.yml"))
	readme := read(t, filepath.Join(pagesDir, "README.md"))
	severities := map[string][]string{}
	for _, r := range alertRules(t) {
		severity := r.Labels["severity"]
		severities[r.Alert] = append(severities[r.Alert], severity)
		if times, ok := respond[severity]; !ok || r.Labels["respond_within"] != times[0] || r.Labels["resolve_within"] != times[1] {
			t.Errorf("%s: labels %v", r.Alert, r.Labels)
		}
		url := "https://github.com/breakerd/breakerd/blob/main/docs/runbooks/" + r.Alert + ".md"
		if r.Annotations["runbook_url"] != url || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
		if !strings.Contains(tests, "name: "+r.Alert+" at") || !strings.Contains(readme, "]("+r.Alert+".md)") {
			t.Errorf("%s: no test of promtool, or not in the README of the runbooks", r.Alert)
		}
		if strings.Count(r.Expr, "by (fleet")+strings.Count(r.Expr, "fleet:") == 0 && !strings.Contains(r.Expr, "up{") && !strings.Contains(r.Expr, "circuit_breaker_degraded ==") {
			t.Errorf("%s: several fleets are one to it", r.Alert)
		}
	}
	for alert, of := range severities {
		p := readPage(t, alert)
		slices.Sort(of)
		if p.title != alert || !strings.HasPrefix(p.severity, strings.Join(slices.Compact(of), ", ")) {
			t.Errorf("the page of %s has the title %q and begins with %q", alert, p.title, p.severity)
		}
		want := []string{"What it means", "How to see", "What to do", "How to see that it cleared", "When to escalate"}
		if !slices.Equal(p.headings, want) {
			t.Errorf("the page of %s has the headings %q", alert, p.headings)
		}
		if len(p.commands["How to see"]) == 0 || len(p.commands["How to see that it cleared"]) == 0 {
			t.Errorf("the page of %s has no commands", alert)
		}
	}
	pages, err := filepath.Glob(pagesDir + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		if strings.HasPrefix(name, "CircuitBreaker") && severities[name] == nil {
			t.Errorf("%s is the page of no alert", path)
		}
	}
}

// board is what a test wants of a board of Grafana.
type board struct {
	UID        string `json:"uid"`
	Title      string `json:"title"`
	Templating struct {
		List []struct {
			Name string `json:"name"`
			Type string `json:"type"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int    `json:"id"`
		Title      string `json:"title"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
		FieldConfig struct {
			Defaults struct {
				Unit string `json:"unit"`
			} `json:"defaults"`
		} `json:"fieldConfig"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

// boards are those of deploy/monitoring/grafana/dashboards, by their files.
func boards(t *testing.T) map[string]board {
	t.Helper()
	files, err := filepath.Glob(root + "/deploy/monitoring/grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no boards", err)
	}
	found := map[string]board{}
	for _, file := range files {
		var b board
		if err := json.Unmarshal([]byte(read(t, file)), &b); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[filepath.Base(file)] = b
	}
	return found
}

func TestBoards_AreComplete(t *testing.T) {
	t.Parallel()
	uids := map[string]bool{}
	for name, b := range boards(t) {
		if b.UID == "" || uids[b.UID] || b.Title == "" {
			t.Errorf("%s: uid %q, title %q", name, b.UID, b.Title)
		}
		uids[b.UID] = true
		if len(b.Templating.List) == 0 || b.Templating.List[0].Name != "datasource" || b.Templating.List[0].Type != "datasource" {
			t.Errorf("%s has no variable for its Prometheus: %v", name, b.Templating.List)
		}
		ids := map[int]bool{}
		for _, p := range b.Panels {
			if p.ID == 0 || ids[p.ID] || p.Title == "" || p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %+v", name, p)
			}
			ids[p.ID] = true
		}
	}
}

// answered wants each query of each board, and of the page of capacity, to have an answer from the fleets of the last
// minutes.
func (w *watch) answered(t *testing.T) {
	t.Helper()
	_, page, _ := strings.Cut(read(t, root+"/docs/capacity.md"), "## Seventy per cent")
	page, _, _ = strings.Cut(page, "## Many agents")
	asked := 0
	for _, row := range regexp.MustCompile("(?m)^\\|.*\\| `(.*)` \\|$").FindAllStringSubmatch(page, -1) {
		asked++
		if n, err := w.query(t, row[1]); err != nil || n == 0 {
			t.Errorf("docs/capacity.md: no answer to %s: %v", row[1], err)
		}
	}
	if asked < 7 {
		t.Errorf("docs/capacity.md has %d queries", asked)
	}
	vars := strings.NewReplacer("$fleet", ".*", "$agent", ".*")
	for name, b := range boards(t) {
		for _, p := range b.Panels {
			for _, q := range p.Targets {
				if n, err := w.query(t, vars.Replace(q.Expr)); err != nil || n == 0 {
					t.Errorf("%s, %s: no answer to %s: %v", name, p.Title, q.Expr, err)
				}
			}
		}
	}
}
