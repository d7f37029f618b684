package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// tokenPrefix begins every token that we make, so that people, and programs that search for secrets, know one.
const tokenPrefix = "breakerd_"

// newToken makes a token of 256 random bits.
func newToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return tokenPrefix + hex.EncodeToString(b[:])
}

// entry is an entry of the file as it is written.
type entry struct {
	Name    string   `yaml:"name"`
	Role    Role     `yaml:"role"`
	SHA256  string   `yaml:"sha256"`
	Expires string   `yaml:"expires,omitempty"`
	Agents  []string `yaml:"agents,omitempty,flow"`
}

// NewToken makes a token as args say, and writes to out one line with the token, and the entry for AUTH_FILE below it.
// The token is kept nowhere.
func NewToken(args []string, out io.Writer, now time.Time) error {
	flags := flag.NewFlagSet("token new", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	name := flags.String("name", "", "")
	role := flags.String("role", "", "")
	expires := flags.String("expires", "", "")
	agents := flags.String("agents", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return errors.New("there is an argument too many")
	}
	token := newToken()
	sum := sha256.Sum256([]byte(token))
	e := entry{Name: *name, Role: Role(*role), SHA256: hex.EncodeToString(sum[:])}
	if *agents != "" {
		e.Agents = strings.Split(*agents, ",")
	}
	if *expires != "" {
		at, err := expiry(*expires, now)
		if err != nil {
			return err
		}
		e.Expires = at.UTC().Format(time.RFC3339)
	}
	text, err := yaml.Marshal([]entry{e})
	if err == nil {
		_, err = parse(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n%s", token, text)
	return err
}

// expiry reads a time, or a length from now.
func expiry(s string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		var length time.Duration
		if length, err = time.ParseDuration(s); err == nil {
			at = now.Add(length)
		}
	}
	if err != nil || !at.After(now) {
		return at, errors.New("--expires: want a time to come, as 2027-02-11T09:00:00Z, or how long from now, as 2160h")
	}
	return at, nil
}
