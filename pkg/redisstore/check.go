package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
// cannot be reached. warnings name settings of the server under which state can get lost, and a time-out
// that leaves too little room for its round trips; they are sorted. What an ACL or a proxy hides is neither.
func (c *Conn) Check(ctx context.Context) (warnings []string, err error) {
	switch client := c.Client.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex
		err = client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			w, err := c.checkServer(ctx, node, node.Options().Addr, "cluster")
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, w...)
			return err
		})
	case *redis.Client:
		if c.Embedded { // its INFO names nothing of this
			err = client.Ping(ctx).Err()
			break
		}
		warnings, err = c.checkServer(ctx, client, c.Display, "standalone")
	}
	if err != nil {
		return nil, fmt.Errorf("check redis %s: %w", c.Display, adviseOnAddress(advise(err)))
	}
	warnings = slices.DeleteFunc(warnings, func(w string) bool { return w == "" })
	slices.Sort(warnings)
	return warnings, nil
}

// advise makes a SettingsError of an answer that no waiting changes: one to a connection, not to an operation.
func advise(err error) error {
	text := err.Error()
	sentinels := strings.Contains(text, "all sentinels specified in configuration are unreachable") // go-redis's words
	for _, known := range [...]struct{ answer, advice string }{
		{"WRONGPASS", "the Sentinels' user or password is wrong (REDIS_SENTINEL_PASSWORD, or the URL)"},
		{"NOAUTH", "the Sentinels need a password: set REDIS_SENTINEL_PASSWORD"},
		{"unknown command 'sentinel'", "the server is no Sentinel: a path that is no number names a Sentinel's master"},
		{"redis: nil", "the Sentinels know no master of the name in the URL's path"},
	} {
		if sentinels && strings.Contains(text, known.answer) {
			return &SettingsError{Advice: known.advice, Err: err}
		}
	}
	for _, known := range [...]struct{ answer, about, advice string }{
		{"WRONGPASS", "", "the user or the password is wrong (REDIS_USERNAME, REDIS_PASSWORD, or the URL)"},
		{"NOAUTH", "", "a password is needed: set REDIS_PASSWORD"},
		{"Protocol error: unauthenticated", "", "a password is needed: set REDIS_PASSWORD"}, // to a long command
		{"AUTH ", "", "the server has no password: take it out of REDIS_PASSWORD, or of the URL"},
		{"DB index is out of range", "", "the server has no such database: take a lower number, or raise its databases"},
		{"NOPERM", "'select' command", "the user may not choose a database: take number 0, or allow SELECT in its ACL"},
		{"SELECT is not allowed in cluster mode", "", isCluster},
		{
			"This instance has cluster support disabled", "",
			"the server is no Redis Cluster: write redis:// in place of redis+cluster://",
		},
	} {
		if !sentinels && answers(err, known.answer) && strings.Contains(text, known.about) {
			return &SettingsError{Advice: known.advice, Err: err}
		}
	}
	return err
}

// adviseOnAddress makes a SettingsError of the answer of something that is not Redis, such as a web server.
func adviseOnAddress(err error) error {
	if !strings.Contains(err.Error(), "redis: can't parse") { // go-redis's words
		return err
	}
	return &SettingsError{Advice: "what answers there does not speak Redis' protocol: is the address right?", Err: err}
}

const isCluster = "the server is part of a Redis Cluster: write redis+cluster:// in place of redis://"

// checkServer checks one server, which a warning calls name. A warning may be empty.
func (c *Conn) checkServer(
	ctx context.Context, client *redis.Client, name, mode string,
) (warnings []string, err error) {
	server, err := infoFields(ctx, client, "server")
	if err == nil {
		err = checkFields(server, mode)
	}
	if err != nil {
		return nil, err
	}
	memory, err := infoFields(ctx, client, "memory")
	if err == nil && len(memory) == 0 {
		memory, err = memoryConfig(ctx, client)
	}
	if err != nil {
		return nil, err
	}
	took, err := roundTripTime(ctx, client)
	return []string{
		evictionWarning(name, memory["maxmemory"], memory["maxmemory_policy"]), slowWarning(name, took, c.timeout),
	}, err
}

// roundTripTime is the shortest of three; 0: not known.
func roundTripTime(ctx context.Context, client *redis.Client) (shortest time.Duration, err error) {
	for range 3 {
		begin := time.Now()
		if err := client.Ping(ctx).Err(); err != nil {
			return 0, unlessHidden(err)
		}
		if took := time.Since(begin); shortest == 0 || took < shortest {
			shortest = took
		}
	}
	return shortest, nil
}

// slowWarning is empty if three round trips fit into the time-out, as a call may need when its script is not known yet,
// or its connection is new.
func slowWarning(name string, took, timeout time.Duration) string {
	if 3*took <= timeout {
		return ""
	}
	return fmt.Sprintf("%s: a round trip takes %d ms, and REDIS_TIMEOUT_MS is %d: set it to three round trips at least, "+
		"or Redis will be taken for down", name, took.Milliseconds(), timeout.Milliseconds())
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

// unlessHidden drops the error of a command that an ACL denies, or that was renamed or left out, wholly or in part. The
// server is there, and has accepted the user.
func unlessHidden(err error) error {
	_, notConnected := errors.AsType[*dialError](err)
	if !notConnected && (redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown") ||
		redis.HasErrorPrefix(err, "section")) {
		return nil
	}
	return err
}
