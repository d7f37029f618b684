package webhook

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/breakerd/breakerd/internal/filewatch"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	maxFile   = 1 << 20 // bytes of WEBHOOKS_FILE
	maxHooks  = 32
	maxSecret = 4096 // bytes of a secret_file
)

// The formats of a message.
const (
	formatJSON  = "json"
	formatSlack = "slack"
)

// hook is one entry of WEBHOOKS_FILE.
type hook struct {
	Name       string   `yaml:"name"`        // as Redis, the log and the metrics have it; default: the url's host
	URL        string   `yaml:"url"`         // http or https; it may hold a secret, and is shown nowhere
	Kinds      []string `yaml:"kinds"`       // of events, and groups of them; default: transitions, gate, store
	Agents     []string `yaml:"agents"`      // patterns; default: all. Events that are no agent's are sent in any case
	SecretFile string   `yaml:"secret_file"` // what messages are signed with, a secret a line; default: they are not
	Format     string   `yaml:"format"`      // formatJSON, the default, or formatSlack

	host  string
	kinds map[string]bool // Kinds, without groups
}

// groups are the names that stand for several kinds.
func groups() map[string][]string {
	return map[string][]string{
		"transitions": {
			machine.EventOpened, machine.EventClosed, machine.EventHoldExpired, machine.EventManualOpen,
			machine.EventManualClose, machine.EventManualReset, machine.EventManualRelease, machine.EventExternalEdit,
			machine.EventEditUndone, redisstore.EventHoldEndsSoon,
		},
		"store": {redisstore.EventStoreReset},
	}
}

// others are the kinds of no group.
func others() []string {
	return []string{
		redisstore.EventGate, redisstore.EventAction, machine.EventHalfOpened, machine.EventRepaired,
		machine.EventConfigured, machine.EventForgotten, redisstore.EventEvidence, redisstore.EventReplicaJoined,
		redisstore.EventReplicaLeft, redisstore.EventReplicaGone, redisstore.EventWorkflow,
		redisstore.EventRestore,
	}
}

var nameWord = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// parse reads the text of WEBHOOKS_FILE. The error names the hook, and shows no url.
func parse(text []byte) ([]hook, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	var hooks []hook
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&hooks); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("want a YAML list of hooks: %w", withoutValues(err))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("want one YAML document")
	}
	if len(hooks) > maxHooks {
		return nil, fmt.Errorf("%d hooks: want at most %d", len(hooks), maxHooks)
	}
	seen := map[string]bool{}
	for i := range hooks {
		h := &hooks[i]
		if err := h.complete(); err != nil {
			return nil, fmt.Errorf("hook %d, %q: %w", i+1, h.Name, err)
		}
		if seen[h.Name] {
			return nil, fmt.Errorf("hook %d: a second one is called %q: want a name of its own for each", i+1, h.Name)
		}
		seen[h.Name] = true
	}
	return hooks, nil
}

// inYAML are the values in an error of the YAML reader.
var inYAML = regexp.MustCompile("`[^`]*`")

// withoutValues takes the values of the file out of an error: one of them may be a secret in a url.
func withoutValues(err error) error {
	return errors.New(inYAML.ReplaceAllString(err.Error(), "a value"))
}

// complete checks a hook, and fills in what is left out.
func (h *hook) complete() error {
	u, err := url.Parse(h.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.Fragment != "" {
		return errors.New("url: want http:// or https://, a host, and no user, password or fragment")
	}
	h.host = u.Host
	h.Name = cmp.Or(h.Name, u.Hostname())
	if !nameWord.MatchString(h.Name) {
		return errors.New("name: want 1 to 64 of A-Z a-z 0-9 . _ -")
	}
	if h.Kinds == nil {
		h.Kinds = []string{"transitions", redisstore.EventGate, "store"}
	}
	if err := h.readKinds(); err != nil {
		return err
	}
	for _, pattern := range h.Agents {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("agents: %.64q is no pattern: want names with * and ? in them", pattern)
		}
	}
	h.Format = cmp.Or(h.Format, formatJSON)
	if h.Format != formatJSON && h.Format != formatSlack {
		return fmt.Errorf("format: %.64q: want %s or %s", h.Format, formatJSON, formatSlack)
	}
	if h.SecretFile != "" {
		_, err = new(secrets{path: h.SecretFile}).read()
	}
	return err
}

func (h *hook) readKinds() error {
	h.kinds = map[string]bool{}
	groups := groups()
	known := others()
	for group, kinds := range groups {
		known = append(append(known, group), kinds...)
	}
	for _, kind := range h.Kinds {
		if !slices.Contains(known, kind) {
			slices.Sort(known)
			return fmt.Errorf("kinds: %.64q: want some of %s", kind, strings.Join(known, ", "))
		}
		if groups[kind] == nil {
			h.kinds[kind] = true
		}
		for _, k := range groups[kind] {
			h.kinds[k] = true
		}
	}
	return nil
}

// same reports whether two hooks say the same.
func (h *hook) same(other *hook) bool { return reflect.DeepEqual(h, other) }

// about reports whether events of an agent concern the hook.
func (h *hook) about(agent string) bool {
	return len(h.Agents) == 0 || agent == noAgent || slices.ContainsFunc(h.Agents, func(pattern string) bool {
		is, _ := path.Match(pattern, agent) // complete has checked it
		return is
	})
}

// secrets are those of a file, a line each, which is read again when it changes.
type secrets struct {
	path string
	seen filewatch.Sight
	good []string
}

// read returns the secrets. If the file cannot be read it returns the last good ones; the error means that there are
// none.
func (s *secrets) read() ([]string, error) {
	if s.path == "" {
		return nil, nil
	}
	text, seen, err := filewatch.Read(s.path, maxSecret, s.seen)
	s.seen = seen
	if err == nil && text != nil {
		var lines []string
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		if len(lines) > 0 && len(text) <= maxSecret {
			s.good = lines
		} else {
			err = fmt.Errorf("%s: want a secret on each line, in %d bytes at most", s.path, maxSecret)
		}
	}
	if s.good != nil {
		return s.good, nil
	}
	if err != nil {
		err = fmt.Errorf("secret_file: %w", err)
	}
	return nil, err
}
