package ctl

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/pkg/client"
)

const (
	directStart = 6 * time.Second // for Redis to answer
	directEnd   = 5 * time.Second
	directPoll  = 20 * time.Millisecond
)

// direct is the way to Redis where no breakerd is left: a breakerd inside this process, for one command. So a command
// goes by the policies that breakerd would go by, its change is in the audit, and every replica hears of it.
type direct struct {
	address string
	token   client.Token

	end func()
}

// startDirect starts it. It listens on loopback, for a token that nobody else knows.
func (c *cli) startDirect(ctx context.Context, redis, actor string) (*direct, error) {
	if strings.HasPrefix(redis, "embedded:") {
		return nil, usagef("--redis redis://HOST:6379/0", "--redis needs the Redis of the fleet; an embedded one is empty")
	}
	dir, err := os.MkdirTemp("", "breakerctl-") // mode 0700
	if err != nil {
		return nil, err
	}
	d := &direct{token: client.Token(rand.Text())}
	sum := sha256.Sum256([]byte(d.token))
	access := fmt.Sprintf("- name: %q\n  role: admin\n  sha256: %s\n", actor, hex.EncodeToString(sum[:]))
	if err := os.WriteFile(filepath.Join(dir, "auth.yaml"), []byte(access), 0o600); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	log, ended := &logBuffer{}, make(chan int, 1)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	pairs := c.directEnviron(redis, filepath.Join(dir, "auth.yaml"))
	go func() { ended <- app.Breakerd().Run(running, nil, pairs, io.Discard, log) }()
	d.end = sync.OnceFunc(func() {
		stop()
		select {
		case <-ended:
		case <-time.After(directEnd):
		}
		_ = os.RemoveAll(dir)
	})
	if err := d.await(ctx, log, ended); err != nil {
		d.end()
		return nil, err
	}
	var own []string
	for name := range c.env {
		if strings.HasPrefix(name, "CIRCUIT_BREAKER_") {
			own = append(own, name)
		}
	}
	slices.Sort(own)
	c.tellf("without breakerd: defaults of this shell (%s), registry file %s, overrides of Redis",
		orDash(strings.Join(own, ", ")), orDash(c.env["AGENTS_FILE"]))
	return d, nil
}

// directEnviron is the environment of this shell, but for what belongs to a service.
func (c *cli) directEnviron(redis, access string) (pairs []string) {
	environ := maps.Clone(c.env)
	for _, name := range []string{
		"WEBHOOKS_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE", "DEBUG_LISTEN", "REDIS_URL_FILE",
		"BREAKERD_AUTH",
	} {
		delete(environ, name)
	}
	maps.Copy(environ, map[string]string{
		"REDIS_URL": redis, "BREAKERD_LISTEN": "127.0.0.1:0", "AUTH_FILE": access,
		"REPLICA_ID": fmt.Sprintf("breakerctl-%d", os.Getpid()), "LOG_FORMAT": "json", "LOG_LEVEL": "info",
		"SHUTDOWN_DELAY_SECONDS": "0",
	})
	for name, value := range environ {
		pairs = append(pairs, name+"="+value)
	}
	return pairs
}

// await waits until it is ready, or says why it is not.
func (d *direct) await(ctx context.Context, log *logBuffer, ended <-chan int) error {
	ctx, cancel := context.WithTimeout(ctx, directStart)
	defer cancel()
	look := time.NewTicker(directPoll)
	defer look.Stop()
	for {
		select {
		case code := <-ended:
			exit := exitUsage
			if code != exitUsage {
				exit = exitUnreachable
			}
			return &failure{
				Exit: exit, Code: "redis", Message: "Redis cannot be used: " + log.last(),
				Next: "check --redis, and the CIRCUIT_BREAKER_ variables of this shell",
			}
		case <-ctx.Done():
			return &failure{
				Exit: exitUnreachable, Code: "unreachable", Message: "Redis does not answer: " + log.last(),
				Next: "redis-cli -u URL ping",
			}
		case <-look.C:
		}
		if d.address = log.address(); d.address == "" {
			continue
		}
		to, err := client.New(client.Options{Servers: []string{d.address}, Token: d.token})
		if err != nil {
			return err
		}
		ready, err := to.Ready(ctx)
		to.CloseIdleConnections()
		if err == nil && ready.Status == "ready" {
			return nil
		}
	}
}

// logBuffer keeps the lines of a log.
type logBuffer struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(line)
}

type logLine struct {
	Level   string `json:"level"`
	Msg     string `json:"msg"`
	Address string `json:"address"`
	Error   string `json:"error"`
}

// each calls f for each line until it returns true.
func (b *logBuffer) each(f func(text string, line logLine) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for text := range strings.Lines(b.lines.String()) {
		var line logLine
		_ = json.Unmarshal([]byte(text), &line) // what is said before there is a log is no JSON
		if f(strings.TrimSpace(text), line) {
			return
		}
	}
}

func (b *logBuffer) address() (url string) {
	b.each(func(_ string, line logLine) bool {
		if line.Msg == "listening" {
			url = "http://" + line.Address
		}
		return url != ""
	})
	return url
}

// last is the last trouble that was logged.
func (b *logBuffer) last() (words string) {
	b.each(func(text string, line logLine) bool {
		switch {
		case line.Error != "":
			words = line.Msg + ": " + line.Error
		case line.Msg == "" && text != "":
			words = text
		}
		return false
	})
	return words
}
