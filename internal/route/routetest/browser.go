package routetest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Browse renders a page of the API in a real browser, which reaches no other machine. It gives the page's DOM, the URLs
// that the page asked for, and the lines of the browser's console.
func (c *Client) Browse(path string) (dom string, asked, console []string) {
	c.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		c.Fatal("chromium is missing: apt-get install chromium")
	}
	dir := c.TempDir()
	netLog := filepath.Join(dir, "net.json")
	ctx, cancel := context.WithTimeout(c.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-extensions", "--user-data-dir="+filepath.Join(dir, "profile"), "--log-net-log="+netLog,
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr",
		"--virtual-time-budget=5000", "--dump-dom", c.URL+path)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, 5*time.Second
	if err := cmd.Run(); err != nil {
		c.Fatalf("chromium: %v\n%s", err, &errs)
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			console = append(console, line)
		}
	}
	text, err := os.ReadFile(netLog)
	if err != nil {
		c.Fatal(err)
	}
	return out.String(), c.askedBy(text), console
}

// askedBy lists the URLs in a browser's network log that pages asked for, not the browser itself.
func (c *Client) askedBy(netLog []byte) (urls []string) {
	c.Helper()
	var log struct {
		Events []struct {
			Params struct {
				Initiator string `json:"initiator"`
				URL       string `json:"url"`
			} `json:"params"`
		} `json:"events"`
	}
	if err := json.Unmarshal(netLog, &log); err != nil {
		c.Fatalf("the browser's log: %v", err)
	}
	for _, e := range log.Events {
		if p := e.Params; strings.HasPrefix(p.Initiator, "http") && p.URL != "" && !slices.Contains(urls, p.URL) {
			urls = append(urls, p.URL)
		}
	}
	slices.Sort(urls)
	return urls
}

// onThePage checks that /docs shows every operation of the document, and asks for the document alone.
func (c *Client) onThePage(...string) {
	c.Helper()
	if c.Token != "" { // a browser sends none to a page
		return
	}
	dom, asked, console := c.Browse("/docs#live")
	if len(console) > 0 {
		c.Errorf("the browser's console has %q", console)
	}
	for id, op := range c.Operations() {
		for _, want := range []string{`id="` + id + `"`, `href="#` + id + `"`, ">" + op.Path + "<"} {
			if !strings.Contains(dom, want) {
				c.Errorf("%s: the page lacks %s", id, want)
			}
		}
	}
	if !strings.Contains(dom, `id="live" open=""`) {
		c.Error("the operation that the address names is not open")
	}
	if want := []string{c.URL + "/openapi.json"}; !slices.Equal(asked, want) {
		c.Errorf("the page asked for %q, want %q", asked, want)
	}
}
