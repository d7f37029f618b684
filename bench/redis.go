package main

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/redis/go-redis/v9"
)

// redisServer is a redis-server of the test kit, with a client for the bench's own questions.
type redisServer struct {
	*testkit.Server

	client *redis.Client
}

func startRedis(t testkit.T) *redisServer {
	t.Helper()
	s := testkit.Start(t)
	return &redisServer{s, s.Client(t)}
}

// reading is what a server has done so far.
type reading struct {
	stats map[string]stat // by command
	cpu   time.Duration   // of user and kernel
}

// stat is one command's line of INFO: how many calls it had, and the µs they took.
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

// scripts is the number of scripts that ran.
func (r reading) scripts() int64 { return r.stats["evalsha"].n }
