package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// SettingsError says that a server answers and that the settings do not fit it, so that no waiting helps.
type SettingsError struct {
	Advice string // what to change
	Err    error  // what the server answers
}

func (e *SettingsError) Error() string { return e.Advice + ": " + e.Err.Error() }

// Unwrap gives what the server answers.
func (e *SettingsError) Unwrap() error { return e.Err }

// Check asks the server, or every master of a cluster, whether it suits.
//
// err is a [*SettingsError] if a server answers and the settings, or its version, do not fit; another error if one
// cannot be reached. warnings name settings of the server under which state can get lost; they are sorted. What an ACL
// or a proxy hides is neither.
func (c *Conn) Check(ctx context.Context) (warnings []string, err error) {
	switch client := c.Client.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex
		err = client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			w, err := checkServer(ctx, node, node.Options().Addr, "cluster")
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, w)
			return err
		})
	case *redis.Client:
		if c.Embedded { // its INFO names nothing of this
			err = client.Ping(ctx).Err()
			break
		}
		var w string
		w, err = checkServer(ctx, client, c.Display, "standalone")
		warnings = append(warnings, w)
	}
	if err != nil {
		return nil, fmt.Errorf("check redis %s: %w", c.Display, advise(err))
	}
	warnings = slices.DeleteFunc(warnings, func(w string) bool { return w == "" })
	slices.Sort(warnings)
	return warnings, nil
}

// advise makes a SettingsError of an answer that no waiting changes.
func advise(err error) error {
	text := err.Error()
	ofSentinels := strings.Contains(text, "all sentinels specified in configuration are unreachable") // go-redis's words
	for _, known := range [...]struct {
		ofSentinels    bool
		answer, advice string
	}{
		{true, "WRONGPASS", "the Sentinels' user or password is wrong (REDIS_SENTINEL_PASSWORD, or the URL)"},
		{true, "NOAUTH", "the Sentinels need a password: set REDIS_SENTINEL_PASSWORD"},
		{true, "unknown command 'sentinel'", "the server is no Sentinel: a path that is no number names a Sentinel's master"},
		{true, "redis: nil", "the Sentinels know no master of the name in the URL's path"},
		{false, "WRONGPASS", "the user or the password is wrong (REDIS_USERNAME, REDIS_PASSWORD, or the URL)"},
		{false, "NOAUTH", "a password is needed: set REDIS_PASSWORD"},
		{false, "DB index is out of range", "the server has no such database: take a lower number, or raise its databases"},
		{false, "SELECT is not allowed in cluster mode", isCluster},
		{false, "cluster support disabled", "the server is no Redis Cluster: write redis:// in place of redis+cluster://"},
	} {
		if known.ofSentinels == ofSentinels && strings.Contains(text, known.answer) {
			return &SettingsError{Advice: known.advice, Err: err}
		}
	}
	return err
}

const isCluster = "the server is part of a Redis Cluster: write redis+cluster:// in place of redis://"

// checkServer checks one server, which a warning calls name.
func checkServer(ctx context.Context, client *redis.Client, name, mode string) (warning string, err error) {
	server, err := infoFields(ctx, client, "server")
	if err == nil {
		err = checkFields(server, mode)
	}
	if err != nil {
		return "", err
	}
	memory, err := infoFields(ctx, client, "memory")
	if err == nil && len(memory) == 0 {
		memory, err = memoryConfig(ctx, client)
	}
	if err != nil {
		return "", err
	}
	return evictionWarning(name, memory["maxmemory"], memory["maxmemory_policy"]), nil
}

// minRedisMajor is the oldest release that works. Redis before 7.0 wraps the errors that a script raises. Every Valkey
// is younger.
const minRedisMajor = 7

// checkFields takes the fields of INFO server. A field that is missing, or that it cannot read, passes.
func checkFields(server map[string]string, mode string) error {
	is := errors.New("redis_version:" + server["redis_version"] + " redis_mode:" + server["redis_mode"])
	major, _, _ := strings.Cut(server["redis_version"], ".")
	if n, err := strconv.Atoi(major); err == nil && n < minRedisMajor && server["server_name"] != "valkey" {
		return &SettingsError{"the server is too old: Redis 7.0 or later, or Valkey, is needed", is}
	}
	switch {
	case server["redis_mode"] == "sentinel":
		return &SettingsError{"the server is a Sentinel: name the master in the URL, redis://host:26379/mymaster", is}
	case server["redis_mode"] == "cluster" && mode != "cluster":
		return &SettingsError{isCluster, is}
	}
	return nil
}

// evictionWarning is empty where nothing can be evicted, or nothing is known.
func evictionWarning(name, maxMemory, policy string) string {
	if policy == "" || policy == "noeviction" || maxMemory == "0" {
		return ""
	}
	return fmt.Sprintf("%s: maxmemory-policy is %s: Redis may evict the state of breakers; set it to noeviction",
		name, policy)
}

// infoFields reads a section of INFO. A section that may not be asked for is empty.
func infoFields(ctx context.Context, client *redis.Client, section string) (map[string]string, error) {
	text, err := client.Info(ctx, section).Result()
	if err != nil {
		return nil, unlessHidden(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// memoryConfig asks CONFIG for the fields of INFO memory that count here.
func memoryConfig(ctx context.Context, client *redis.Client) (map[string]string, error) {
	config, err := client.ConfigGet(ctx, "maxmemory*").Result()
	if err != nil {
		return nil, unlessHidden(err)
	}
	return map[string]string{"maxmemory": config["maxmemory"], "maxmemory_policy": config["maxmemory-policy"]}, nil
}

// unlessHidden drops the error of a command that an ACL denies, or that was renamed or left out. The server is there,
// and has accepted the user.
func unlessHidden(err error) error {
	_, notConnected := errors.AsType[*dialError](err)
	if !notConnected && (redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown")) {
		return nil
	}
	return err
}
