package config

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
)

// maxSecret bounds the size of a file that holds a secret, in bytes.
const maxSecret = 64 << 10

// setting is the text of a variable and the file it came from ("": the environment).
type setting struct{ text, file string }

// environment is the variables that are set; one that is set to nothing is not in it.
type environment struct {
	set   map[string]setting
	twins map[string]string // NAME to NAME_FILE and back, for secrets
}

// newEnvironment reads NAME=VALUE pairs as os.Environ gives them; of two of the same name the last counts.
func newEnvironment(pairs []string) environment {
	e := environment{set: map[string]setting{}, twins: map[string]string{}}
	for _, v := range variables() {
		if v.secret {
			e.twins[v.name], e.twins[v.name+"_FILE"] = v.name+"_FILE", v.name
		}
	}
	for _, pair := range pairs {
		if name, text, ok := strings.Cut(pair, "="); ok && name != "" {
			e.put(name, setting{text: text})
		}
	}
	return e
}

// put trims what only a password could want untrimmed, and forgets what is empty.
func (e environment) put(name string, s setting) {
	if e.twins[name] == "" {
		s.text = strings.TrimSpace(s.text)
	}
	if s.text == "" {
		delete(e.set, name)
		return
	}
	e.set[name] = s
}

func (e environment) has(name string) bool {
	_, ok := e.set[name]
	return ok
}

// fill adds what ENV_FILE says: some names win over the environment, the others only count where nothing is set,
// under neither of a secret's two names.
func (e environment) fill(lines []line, file string) {
	said := environment{set: map[string]setting{}, twins: e.twins}
	for _, l := range lines {
		said.put(l.name, setting{l.text, file})
	}
	for name := range said.set { // all is decided before anything is put: twins must not see each other
		if !winsInFile(name) && (e.has(name) || e.has(e.twins[name])) {
			delete(said.set, name)
		}
	}
	maps.Copy(e.set, said.set)
}

// winsInFile tells the names that people edit in the file of a running installation.
func winsInFile(name string) bool {
	return strings.HasPrefix(name, policyPrefix) || name == "REDIS_TTL_SECONDS" || name == "LOG_LEVEL"
}

// readSecrets replaces each NAME_FILE by the NAME that the file holds.
func (e environment) readSecrets() (errs []error) {
	for _, v := range variables() {
		path, ok := e.set[v.name+"_FILE"]
		if !v.secret || !ok {
			continue
		}
		if e.has(v.name) {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set: want one of them", v.name, v.name))
			continue
		}
		text, err := readSecret(path.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s_FILE: %w", v.name, err))
			continue
		}
		e.set[v.name] = setting{text: text, file: path.text}
	}
	return errs
}

// readSecret gives the file's content without its final newline. An empty secret is an error: nobody meant it.
func readSecret(path string) (string, error) {
	data, err := readFile(path, maxSecret)
	if err != nil {
		return "", err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("%s is empty", path)
	}
	return string(data), nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's own word
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory (Docker makes one when the file to mount is missing)", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, err
}
