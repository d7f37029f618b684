package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	maxFile  = 1 << 20 // bytes
	maxLines = 1000    // each token is compared with all of them

	// lookEvery is how often the file is looked at. A text that was read twice counts.
	lookEvery = 100 * time.Millisecond
)

// file is what AUTH_FILE says. It never changes.
type file struct {
	lines     []*line
	bySubject map[string]*line
}

// line is one entry of the file.
type line struct {
	caller    Caller // by its token
	digest    [sha256.Size]byte
	hasDigest bool
	subject   string // of a client certificate; "": none
}

// byDigest returns whose token has a digest. It compares all of each digest: its time says nothing about them.
func (f *file) byDigest(sum [sha256.Size]byte) *Caller {
	found := -1
	for i, l := range f.lines {
		same := subtle.ConstantTimeCompare(sum[:], l.digest[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 || !f.lines[found].hasDigest {
		return nil
	}
	return &f.lines[found].caller
}

// has reports whether the file has a line as it was.
func (f *file) has(l *line) bool {
	return slices.ContainsFunc(f.lines, func(other *line) bool {
		a, b := &l.caller, &other.caller
		return l.digest == other.digest && l.subject == other.subject && a.Name == b.Name && a.Role == b.Role &&
			a.Until.Equal(b.Until) && slices.Equal(a.Agents, b.Agents)
	})
}

// Run looks at the file until ctx ends. A bad edit, or the file's absence, leaves the last good one in force.
func (g *Guard) Run(ctx context.Context) {
	if g.o.File == "" {
		return
	}
	g.watched.Follow(ctx, lookEvery, func(err error) {
		if err != nil {
			g.o.Logger.Error("AUTH_FILE not taken, the last good one stays", "event", "access.file_bad", "error", err)
			return
		}
		g.o.Logger.Info("AUTH_FILE loaded", "event", "access.file_loaded", "path", g.o.File,
			"entries", len(g.file.Load().lines))
	})
}

// Problem says why the file as it is now is not in force; nil: it is. It does not wait for a read.
func (g *Guard) Problem() error { return g.watched.Problem() }

// Path is that of the file; "": there is none.
func (g *Guard) Path() string { return g.o.File }

// Entry is an entry of the file, without what proves who somebody is.
type Entry struct {
	Caller

	HasToken bool
	Subject  string // of a client certificate; "": none
}

// Expired reports whether nobody is let in by the entry any more.
func (e *Entry) Expired(now time.Time) bool { return !e.stands(now) }

// Entries are those of the file in force, in its order.
func (g *Guard) Entries() []Entry {
	var out []Entry
	for _, l := range g.file.Load().lines {
		out = append(out, Entry{Caller: l.caller, HasToken: l.hasDigest, Subject: l.subject})
	}
	return out
}

// take puts the text of the file in force, if it is good.
func (g *Guard) take(text []byte) error {
	f, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", g.o.File, err)
	}
	g.file.Store(f)
	return nil
}

// parse reads the text of a file. No error shows a value: a token may stand where it should not.
func parse(text []byte) (*file, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes", maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty: want a list of entries, [] for none")
	case err != nil:
		return nil, fmt.Errorf("it is no YAML: %w", quoted(err))
	}
	if dec.Decode(new(yaml.Node)) == nil {
		return nil, errors.New("want one document")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.SequenceNode {
		return nil, errors.New("want a list of entries")
	}
	entries := doc.Content[0].Content
	if len(entries) > maxLines {
		return nil, fmt.Errorf("want %d entries at most", maxLines)
	}
	f := &file{bySubject: map[string]*line{}}
	var errs []error
	for _, n := range entries {
		l, err := parseLine(n)
		if err == nil {
			err = f.add(l)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("entry at line %d: %w", n.Line, err))
		}
	}
	return f, errors.Join(errs...)
}

// quoted is an error of the parser without what it quotes.
func quoted(err error) error {
	return errors.New(regexp.MustCompile("`[^`]*`|'[^']*'|\"[^\"]*\"").ReplaceAllString(err.Error(), "…"))
}

// add refuses what would make it uncertain who a caller is.
func (f *file) add(l *line) error {
	for i, other := range f.lines {
		switch {
		case l.hasDigest && other.hasDigest && l.digest == other.digest:
			return fmt.Errorf("has the sha256 of entry %d", i+1)
		case l.subject != "" && l.subject == other.subject:
			return fmt.Errorf("has the subject of entry %d", i+1)
		case l.caller.Name == other.caller.Name &&
			(l.caller.Role != other.caller.Role || !slices.Equal(l.caller.Agents, other.caller.Agents)):
			return fmt.Errorf("has the name of entry %d, and another role or other agents: "+
				"a name may have several tokens, all of which may do the same", i+1)
		}
	}
	f.lines = append(f.lines, l)
	if l.subject != "" {
		f.bySubject[l.subject] = l
	}
	return nil
}

// parseLine reads one entry.
func parseLine(n *yaml.Node) (*line, error) {
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("want name, role, sha256 …")
	}
	l := &line{}
	l.caller.By, l.caller.line = knownByToken, l
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		set, known := fields()[key]
		switch {
		case !known:
			return nil, errors.New("want no fields but name, role, sha256, expires, agents and subject")
		case seen[key]:
			return nil, fmt.Errorf("%s is given twice", key)
		}
		seen[key] = true
		if err := set(l, value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	switch {
	case l.caller.Name == "":
		return nil, errors.New("name is missing")
	case l.caller.Role == "":
		return nil, errors.New("role is missing")
	case !l.hasDigest && l.subject == "":
		return nil, errors.New("sha256 is missing, or subject")
	}
	return l, nil
}

// fields are the fields of an entry.
func fields() map[string]func(*line, *yaml.Node) error {
	return map[string]func(*line, *yaml.Node) error{
		"name": setName, "role": setRole, "sha256": setDigest, "expires": setExpires, "agents": setAgents,
		"subject": setSubject,
	}
}

// textOf returns a text; "": there is none, or something else.
func textOf(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ""
	}
	return n.Value
}

// reserved names stand for somebody else in the audit: the breaker itself, and nobody.
func reserved(name string) bool { return name == "-" || name == "api" }

func setName(l *line, n *yaml.Node) error {
	if l.caller.Name = textOf(n); !breaker.ValidWord(l.caller.Name) || reserved(l.caller.Name) {
		return errors.New("want 1 to 64 of A-Z a-z 0-9 . _ : @ -, not - or api alone")
	}
	return nil
}

func setRole(l *line, n *yaml.Node) error {
	l.caller.Role = Role(textOf(n))
	if !slices.Contains([]Role{Read, Report, Operate, Admin}, l.caller.Role) {
		return errors.New("want read, report, operate or admin")
	}
	return nil
}

func setDigest(l *line, n *yaml.Node) error {
	sum, err := hex.DecodeString(textOf(n))
	if err != nil || len(sum) != len(l.digest) {
		return errors.New("want the SHA-256 of the token, 64 of 0-9 a-f")
	}
	copy(l.digest[:], sum)
	l.hasDigest = true
	return nil
}

func setExpires(l *line, n *yaml.Node) error {
	at, err := time.Parse(time.RFC3339, textOf(n))
	if err != nil {
		return errors.New("want a time such as 2027-02-11T09:00:00Z")
	}
	l.caller.Until = at
	return nil
}

func setAgents(l *line, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return errors.New("want a list of patterns; leave it out for all agents")
	}
	for _, item := range n.Content {
		pattern := textOf(item)
		if err := checkPattern(pattern); err != nil {
			return err
		}
		l.caller.Agents = append(l.caller.Agents, pattern)
	}
	return nil
}

// checkPattern refuses what is no pattern of agents' names.
func checkPattern(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" || len(pattern) > 128 {
		return errors.New("want patterns of agents' names, such as payments-*")
	}
	return nil
}

func setSubject(l *line, n *yaml.Node) error {
	if l.subject = textOf(n); strings.TrimSpace(l.subject) == "" {
		return errors.New("want the subject of a certificate, such as CN=ops,O=Example")
	}
	return nil
}
