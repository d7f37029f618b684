package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// secretFile is a password in a file. It is read for every connection, so that the next one uses a password that was
// changed. It is safe for concurrent use.
type secretFile struct {
	path, of string
	log      *slog.Logger

	mu     sync.Mutex
	good   string // the last that could be read
	logged string // the last failure to read, logged once
}

// openSecret reads the file once, so that a wrong path fails at start. of is whose password it is.
func openSecret(path, of string, log *slog.Logger) (*secretFile, error) {
	f := &secretFile{path: path, of: of, log: log}
	good, err := f.read()
	if err != nil {
		return nil, fmt.Errorf("the file of the password of %s: %w", of, err)
	}
	f.good = good
	return f, nil
}

// read reads the file without its final newline.
func (f *secretFile) read() (string, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return "", err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("%s is empty", f.path)
	}
	return string(data), nil
}

// current is what the file holds now. While it cannot be read, the last good password stays.
func (f *secretFile) current() string {
	fresh, err := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && err.Error() != f.logged:
		f.logged = err.Error()
		f.log.Warn("a password file cannot be read; the last good password stays", "of", f.of, "error", err)
	case err == nil:
		f.logged = ""
		if fresh != f.good {
			f.log.Info("a password file has changed; new connections use it", "of", f.of, "file", f.path)
		}
		f.good = fresh
	}
	return f.good
}

// failoverNode is what go-redis calls a connection to a data node behind Sentinel.
const failoverNode = "Redis<FailoverClient "

// authenticateSentinels gives Sentinels the password. go-redis asks a credentials provider for data nodes only, and
// greets all connections by the same function.
func (f *secretFile) authenticateSentinels(user string) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, conn *redis.Conn) error {
		switch {
		case strings.HasPrefix(conn.String(), failoverNode):
			return nil
		case user == "":
			return conn.Auth(ctx, f.current()).Err()
		default:
			return conn.AuthACL(ctx, user, f.current()).Err()
		}
	}
}

// readPasswords lets each new connection read the files of passwords.
func (o *Options) readPasswords(u *redis.UniversalOptions) error {
	if o.PasswordFile != "" {
		f, err := openSecret(o.PasswordFile, "Redis", o.Logger)
		if err != nil {
			return err
		}
		u.Password = f.good
		u.CredentialsProviderContext = func(context.Context) (user, password string, err error) {
			return u.Username, f.current(), nil
		}
	}
	if o.SentinelPasswordFile != "" && u.MasterName != "" {
		f, err := openSecret(o.SentinelPasswordFile, "the Sentinels", o.Logger)
		if err != nil {
			return err
		}
		u.OnConnect = f.authenticateSentinels(u.SentinelUsername)
		u.SentinelUsername, u.SentinelPassword = "", ""
	}
	return nil
}
