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

// minRedisMajor is the oldest release that works: before 7.0 Redis wraps the
// errors that a script raises. Every Valkey is younger.
const minRedisMajor = 7

// ErrServerTooOld is what Check returns, wrapped, for a Redis before 7.0.
var ErrServerTooOld = errors.New("needs Redis 7.0 or later, or Valkey")

// Check asks the server, or every master of a cluster, whether it suits. err
// says that one cannot be reached or refuses us, or that it is too old
// (ErrServerTooOld). warnings name settings under which state can get lost;
// they are sorted. What an ACL or a proxy hides from us is neither.
func (c *Conn) Check(ctx context.Context) (warnings []string, err error) {
	switch client := c.Client.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex
		err = client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			w, err := checkServer(ctx, node, node.Options().Addr)
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, w)
			return err
		})
	case *redis.Client:
		if c.Embedded { // has no INFO that would tell
			err = client.Ping(ctx).Err()
			break
		}
		var w string
		w, err = checkServer(ctx, client, c.Display)
		warnings = append(warnings, w)
	}
	if err != nil {
		return nil, fmt.Errorf("check redis %s: %w", c.Display, err)
	}
	warnings = slices.DeleteFunc(warnings, func(w string) bool { return w == "" })
	slices.Sort(warnings)
	return warnings, nil
}

// checkServer checks one server, which a warning calls name.
func checkServer(ctx context.Context, client *redis.Client, name string) (warning string, err error) {
	server, err := infoFields(ctx, client, "server")
	if err != nil {
		return "", err
	}
	if err := checkVersion(name, server); err != nil {
		return "", err
	}
	memory, err := infoFields(ctx, client, "memory")
	if err != nil {
		return "", err
	}
	if len(memory) == 0 {
		if memory, err = memoryConfig(ctx, client); err != nil {
			return "", err
		}
	}
	return evictionWarning(name, memory["maxmemory"], memory["maxmemory_policy"]), nil
}

// checkVersion takes the fields of INFO server. A version that it cannot read
// is taken for good.
func checkVersion(name string, server map[string]string) error {
	version := server["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < minRedisMajor && server["server_name"] != "valkey" {
		return fmt.Errorf("%s runs %s: %w", name, version, ErrServerTooOld)
	}
	return nil
}

// evictionWarning is empty where nothing can be evicted, or nothing is known.
func evictionWarning(name, maxMemory, policy string) string {
	if policy == "" || policy == "noeviction" || maxMemory == "0" {
		return ""
	}
	return fmt.Sprintf("%s: maxmemory-policy is %s: Redis may evict the state of breakers; set it to noeviction", name, policy)
}

// infoFields reads a section of INFO. What may not be asked is empty.
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

// unlessHidden drops the error of a command that an ACL denies or that was
// renamed or left out: the server is there and knows us.
func unlessHidden(err error) error {
	if redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown") {
		return nil
	}
	return err
}
