package config

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"strings"
)

// maxSecret bounds the size of a file that holds a secret, in bytes.
const maxSecret = 64 << 10

// setting is the text of a variable and the file it came from ("": the environment).
type setting struct{ text, file string }

// environment holds the variables that are set. A variable that is set to nothing counts as not set.
type environment struct {
	set   map[string]setting
	twins map[string]string // NAME to NAME_FILE and back, for secrets

	theirs bool // of a program of somebody else's: only a Replica's variables count
	own    Own  // what that sets itself
}

// newEnvironment reads NAME=VALUE pairs; the last of two of the same name counts.
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

// put sets a variable. Only a secret may begin or end with blanks.
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

// keepOurs drops what is none of ours in a program of somebody else's, which names its Redis itself. Misspelt variables
// of the policy stay, for a warning.
func (e environment) keepOurs() {
	if !e.theirs {
		return
	}
	names := map[string]bool{"ENV_FILE": true}
	for _, v := range tagged(reflect.TypeFor[Replica]()) {
		names[v.name] = true
		names[v.name+"_FILE"] = v.secret
	}
	names["REDIS_URL"], names["REDIS_URL_FILE"] = false, false
	maps.DeleteFunc(e.set, func(name string, _ setting) bool {
		return !names[name] && !strings.HasPrefix(name, policyPrefix)
	})
}

func (e environment) has(name string) bool {
	_, ok := e.set[name]
	return ok
}

// fill adds the lines of ENV_FILE: some names win over the environment, the others count where neither the name nor, of
// a secret, its twin is set.
func (e environment) fill(lines []line, file string) {
	added := environment{set: map[string]setting{}, twins: e.twins}
	for _, l := range lines {
		added.put(l.name, setting{l.text, file})
	}
	maps.DeleteFunc(added.set, func(name string, _ setting) bool {
		return !winsInFile(name) && (e.has(name) || e.has(e.twins[name]))
	})
	maps.Copy(e.set, added.set)
}

// ownSettings stands in the place of the file of a setting that the program made itself.
const ownSettings = "the program's own settings"

// fillOwn adds the program's own settings where nothing else is set.
func (e environment) fillOwn() {
	own := map[string]string{"CIRCUIT_BREAKER_KEY_PREFIX": e.own.Prefix, "REPLICA_ID": e.own.ReplicaID}
	for name, text := range own {
		if !e.has(name) && text != "" {
			e.set[name] = setting{text, ownSettings}
		}
	}
}

// winsInFile says whether the file wins over the environment: people edit these in the file of a running installation.
func winsInFile(name string) bool {
	return strings.HasPrefix(name, policyPrefix) || name == "REDIS_TTL_SECONDS" || name == "LOG_LEVEL"
}

// readEnvFile fills in what the file at path sets.
func (e environment) readEnvFile(path string) (warnings []string, errs []error) {
	data, err := readFile(path, maxEnvFile)
	if err != nil {
		return nil, []error{fmt.Errorf("ENV_FILE: %w", err)}
	}
	lines, errs := parseEnvFile(path, data)
	first := map[string]int{}
	for _, l := range lines {
		if first[l.name] > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: %s stands in line %d and in line %d, which counts",
				path, l.name, first[l.name], l.number))
		}
		first[l.name] = l.number
	}
	e.fill(lines, path)
	return warnings, errs
}

// readSecrets sets the NAME of each NAME_FILE to what the file holds.
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

// readSecret reads a file without its final newline. An empty secret is an error.
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
	f, err := os.Open(path) //nolint:gosec // the operator chose the path
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

// check reports every variable whose text is not allowed.
func (e environment) check() (errs []error) {
	for _, v := range variables() {
		s, ok := e.set[v.name]
		if !ok {
			continue
		}
		if allowed := v.problem(s.text); allowed != "" {
			errs = append(errs, &Error{Name: v.name, Value: s.text, Allowed: allowed, File: s.file})
		}
	}
	return errs
}

// texts are the checked texts of the fields of [Config], defaults filled in.
func (e environment) texts() map[string]string {
	texts := map[string]string{}
	for _, v := range variables() {
		s := v.def
		if set, ok := e.set[v.name]; ok {
			s = set.text
		}
		texts[v.name] = v.parsed(s)
	}
	texts["REDIS_URL"] = strings.TrimSpace(texts["REDIS_URL"])
	return texts
}
