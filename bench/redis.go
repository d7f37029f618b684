package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisServer is a redis-server of our own on a free loopback port, that keeps nothing.
type redisServer struct {
	addr   string
	client *redis.Client // the bench's own eye
	cmd    *exec.Cmd
	dir    string
}

// startRedis starts a server and waits until it answers. The caller closes it.
func startRedis(ctx context.Context) (*redisServer, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-redis")
	if err != nil {
		return nil, err
	}
	s := &redisServer{addr: net.JoinHostPort("127.0.0.1", port), dir: dir}
	args := []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"}
	s.cmd = exec.CommandContext(ctx, "redis-server", args...) //nolint:gosec // a port and a directory of our own
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.client = redis.NewClient(&redis.Options{
		Addr: s.addr, MaxRetries: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	if err := s.answers(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("redis-server on %s: %w", s.addr, err)
	}
	return s, nil
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// answers waits until this very process serves.
func (s *redisServer) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := s.client.Info(ctx, "server").Result()
		if err == nil && !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)) {
			return errors.New("another server answers")
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (s *redisServer) close() {
	_ = s.client.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

func (s *redisServer) url() string { return "redis://" + s.addr + "/0" }

func (s *redisServer) pid() int { return s.cmd.Process.Pid }

// reading is what a server has done so far.
type reading struct {
	stats map[string]stat // by command
	cpu   time.Duration   // of user and kernel
}

// stat is one command's line: how often, and µs in all.
type stat struct{ n, us int64 }

// read asks the server for its counters.
func (s *redisServer) read(ctx context.Context) (reading, error) {
	info, err := s.client.Info(ctx, "commandstats", "cpu").Result()
	if err != nil {
		return reading{}, err
	}
	return parseInfo(info)
}

func parseInfo(info string) (reading, error) {
	r := reading{stats: map[string]stat{}}
	line := regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+),usec=(\d+)`)
	for _, m := range line.FindAllStringSubmatch(info, -1) {
		n, err := strconv.ParseInt(m[2], 10, 64)
		us, err2 := strconv.ParseInt(m[3], 10, 64)
		if err := errors.Join(err, err2); err != nil {
			return r, err
		}
		r.stats[m[1]] = stat{n, us}
	}
	for l := range strings.SplitSeq(info, "\r\n") {
		name, value, _ := strings.Cut(l, ":")
		if name != "used_cpu_user" && name != "used_cpu_sys" {
			continue
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return r, err
		}
		r.cpu += time.Duration(seconds * float64(time.Second))
	}
	return r, nil
}

// all sums the commands, those inside scripts included, without the bench's own.
func (r reading) all() (sum stat) {
	for name, s := range r.stats {
		switch name {
		case "config|resetstat", "info", "hdel", "del", "ping":
		default:
			sum.n, sum.us = sum.n+s.n, sum.us+s.us
		}
	}
	return sum
}

// scripts is how often a script was run.
func (r reading) scripts() int64 { return r.stats["evalsha"].n }
