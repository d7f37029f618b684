package client

import (
	"fmt"
	"strings"
	"sync"

	"github.com/breakerd/breakerd/internal/filewatch"
)

// tokenSource is where the token comes from.
type tokenSource struct {
	given string
	path  string // "": given is all

	mu   sync.Mutex
	seen filewatch.Sight
	last string // of the file
}

const maxToken = 4096 // bytes

// read returns the token; "": there is none.
func (s *tokenSource) read() (string, error) {
	if s.path == "" {
		return s.given, checkToken("Options.Token", s.given)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text, seen, err := filewatch.Read(s.path, maxToken, s.seen)
	fresh := strings.TrimSpace(string(text))
	if err == nil && text != nil {
		if err = checkToken("Options.TokenFile "+s.path, fresh); err == nil && fresh == "" {
			err = fmt.Errorf("client: Options.TokenFile %s is empty", s.path)
		}
	} else if err != nil {
		err = fmt.Errorf("client: Options.TokenFile: %w", err)
	}
	switch {
	case err != nil && s.last == "":
		return "", err
	case err == nil && text != nil:
		s.last, s.seen = fresh, seen
	}
	return s.last, nil
}

// checkToken keeps what cannot be in a header out of it. Its errors do not quote the token.
func checkToken(what, token string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(token) > maxToken || strings.ContainsFunc(token, bad) {
		return fmt.Errorf("client: %s: want at most %d visible ASCII characters, in one line", what, maxToken)
	}
	return nil
}
