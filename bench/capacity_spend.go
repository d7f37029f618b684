package main

import (
	"context"
	"regexp"
	"strconv"
)

// tab is what a server has spent so far.
type tab struct {
	reading

	in, out float64 // bytes
}

// wholeNumbers are the lines of INFO that hold one.
var wholeNumbers = regexp.MustCompile(`(?m)^(\w+):(\d+)\r?$`)

// numbers reads the whole numbers of a section of INFO.
func (s *redisServer) numbers(ctx context.Context, section string) (map[string]float64, error) {
	info, err := s.client.Info(ctx, section).Result()
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for _, m := range wholeNumbers.FindAllStringSubmatch(info, -1) {
		if out[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *redisServer) tab(ctx context.Context) (t tab, err error) {
	if t.reading, err = s.read(ctx); err != nil {
		return t, err
	}
	net, err := s.numbers(ctx, "stats")
	t.in, t.out = net["total_net_input_bytes"], net["total_net_output_bytes"]
	return t, err
}

// since is what was spent after an earlier look.
func (t tab) since(before tab) cost {
	return cost{(t.cpu - before.cpu).Seconds() * 1e6, t.in - before.in, t.out - before.out}
}

// spend measures what each of n things costs a server.
func (s *redisServer) spend(ctx context.Context, do func(context.Context) (n int64, err error)) (cost, error) {
	before, err := s.tab(ctx)
	if err != nil {
		return cost{}, err
	}
	n, err := do(ctx)
	if err != nil {
		return cost{}, err
	}
	after, err := s.tab(ctx)
	return after.since(before).times(1 / float64(max(n, 1))), err
}
