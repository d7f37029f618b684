package redisstore_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// passwordFile is a file that holds one, and how to write another into it.
func passwordFile(t *testing.T, password string) (path string, write func(string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "password")
	write = func(password string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(password+"\n"), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write(password)
	return path, write
}

// rotate gives a server another password, and ends the connections that have authenticated with the old one.
func rotate(t *testing.T, client *redis.Client, commands ...[]any) {
	t.Helper()
	pipe := client.Pipeline()
	for _, command := range append(commands, []any{"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}, []any{"CLIENT", "KILL", "TYPE", "pubsub"}) {
		pipe.Do(t.Context(), command...)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestPasswordFile_IsReadForEachConnection: a password that was changed on the server and in the file needs no restart.
func TestPasswordFile_IsReadForEachConnection(t *testing.T) {
	t.Parallel()
	setPassword := []any{"CONFIG", "SET", "requirepass", "two", "masterauth", "two"}
	withoutPassword := func(url string) string { return strings.Replace(url, ":one@", "", 1) }
	for name, start := range map[string]func(t *testing.T) (url string, rotateAll func()){
		"one server": func(t *testing.T) (string, func()) {
			s := testkit.Start(t, "--requirepass", "one")
			client := s.Client(t)
			return s.URL(), func() { rotate(t, client, setPassword) }
		},
		"a user": func(t *testing.T) (string, func()) {
			s := testkit.Start(t)
			client := s.Client(t)
			rotate(t, client, []any{"ACL", "SETUSER", "app", "on", ">one", "~*", "&*", "+@all"})
			return strings.Replace(s.URL(), "redis://", "redis://app:x@", 1), func() { // the file replaces x
				rotate(t, client, []any{"ACL", "SETUSER", "app", "resetpass", ">two"})
			}
		},
		"a unix socket": func(t *testing.T) (string, func()) {
			s, socket := testkit.StartUnix(t, "--requirepass", "one")
			client := s.Client(t)
			return "unix://" + socket, func() { rotate(t, client, setPassword) }
		},
		"TLS": func(t *testing.T) (string, func()) {
			s := testkit.StartTLS(t, testkit.NewCA(t), "--requirepass", "one")
			client := s.Client(t)
			return s.URL(), func() { rotate(t, client, setPassword) }
		},
		"a Cluster": func(t *testing.T) (string, func()) {
			set := testkit.StartCluster(t, "--requirepass", "one", "--masterauth", "one")
			var clients []*redis.Client
			for _, node := range set.Nodes {
				clients = append(clients, node.Client(t))
			}
			return set.URL(), func() {
				for _, client := range clients {
					rotate(t, client, setPassword)
				}
			}
		},
		"Sentinels": func(t *testing.T) (string, func()) {
			set := testkit.StartSentinel(t, "--requirepass", "one")
			var data, sentinels []*redis.Client
			for _, node := range append([]*testkit.Server{set.Master}, set.Replicas...) {
				data = append(data, node.Client(t))
			}
			for _, node := range set.Sentinels {
				client := node.Client(t)
				rotate(t, client, []any{"ACL", "SETUSER", "default", "resetpass", ">one"})
				sentinels = append(sentinels, redis.NewClient(&redis.Options{Addr: node.Addr, Password: "one"}))
				t.Cleanup(func() { _ = sentinels[len(sentinels)-1].Close() })
			}
			return set.URL(), func() {
				for _, client := range data {
					rotate(t, client, setPassword)
				}
				for _, client := range sentinels {
					rotate(t, client, []any{"SENTINEL", "SET", "mymaster", "auth-pass", "two"},
						[]any{"ACL", "SETUSER", "default", "resetpass", ">two"})
				}
			}
		},
	} {
		if testing.Short() && name == "Sentinels" { // which take five seconds
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, rotateAll := start(t)
			path, write := passwordFile(t, "one")
			sentinelPath, writeSentinel := passwordFile(t, "one")
			conn, err := redisstore.Open(t.Context(), withoutPassword(url), redisstore.Options{
				Timeout: 2 * time.Second, PasswordFile: path, SentinelPasswordFile: sentinelPath,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{Timeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			ask := func() error {
				_, err := store.Apply(t.Context(), "a", breaker.DefaultPolicy(), withDraw(record(1, 0)))
				return err
			}
			if err := ask(); err != nil {
				t.Fatal(err)
			}
			rotateAll()
			testkit.Eventually(t, "the old password's end", 10*time.Second, func() error {
				if err := ask(); err == nil || !strings.Contains(err.Error(), "password is wrong") {
					return errors.Join(errors.New("no advice"), err)
				}
				return nil
			})
			write("two")
			writeSentinel("two")
			testkit.Eventually(t, "the new password", 10*time.Second, ask)
		})
	}
}

// TestPasswordFile_ThatCannotBeReadKeepsTheLastGoodOne, and is logged once.
func TestPasswordFile_ThatCannotBeReadKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t, "--requirepass", "one")
	path, write := passwordFile(t, "one\r")
	var log testkit.Buffer
	conn, err := redisstore.Open(t.Context(), "redis://"+server.Addr, redisstore.Options{
		PasswordFile: path, Logger: slog.New(slog.NewTextHandler(&log, nil)), Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	killer := server.Client(t)
	ask := func(logged int, what string) {
		t.Helper()
		rotate(t, killer)
		if err := conn.Client.Ping(t.Context()).Err(); err != nil && conn.Client.Ping(t.Context()).Err() != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != logged || strings.Contains(log.String(), "=one") {
			t.Errorf("%s: logged\n%s", what, log.String())
		}
	}
	ask(0, "as it was")
	write("")
	ask(1, "empty")
	ask(1, "still empty")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ask(2, "gone")
	ask(2, "still gone")
	write("one")
	ask(2, "back")
	for _, bad := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		for _, o := range []redisstore.Options{{PasswordFile: bad}, {PasswordFile: path, SentinelPasswordFile: bad}} {
			if _, err := redisstore.Open(t.Context(), "redis://s:1/mymaster", o); err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%+v: %v", o, err)
			}
		}
	}
}
