package registry

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	maxContact    = 500  // bytes
	maxURL        = 2000 // bytes
	maxLabels     = 32
	maxLabelValue = 256 // bytes
)

func (p *parser) timeout(v jsondoc.Value) time.Duration {
	if d, ok := policy.ParseSeconds(v.Raw()); ok && v.Kind() == jsondoc.Number && d >= time.Millisecond && d <= MaxTimeout {
		return d
	}
	p.refuse(v, "seconds from 0.001 to 3600, to 0.001")
	return 0
}

func (p *parser) labels(v jsondoc.Value) map[string]string {
	if v.Kind() != jsondoc.Object {
		p.refuse(v, `an object, {"name": "value", …}`)
		return nil
	}
	var out map[string]string
	for m := range v.Members() {
		switch {
		case !breaker.ValidWord(m.Name):
			p.Addf(m.Key, "the name is not allowed: want 1 to 64 of A-Z a-z 0-9 . _ : @ -")
		case len(out) == maxLabels:
			p.Addf(v, "want at most %d labels", maxLabels)
			return out
		default:
			if out == nil {
				out = map[string]string{}
			}
			text := func(s string) bool { return text.Printable(s, maxLabelValue) }
			out[strings.Clone(m.Name)] = p.text(m.Value, text, "at most 256 bytes of printable text")
		}
	}
	return out
}

// url reads an address. Its faults never show it: a password may stand in it.
func (p *parser) url(v jsondoc.Value) *url.URL {
	if v.Kind() != jsondoc.Text {
		p.refuse(v, "an http or https URL")
		return nil
	}
	u, err := parseURL(v.Text())
	if err != nil {
		p.Addf(v, "%v", err)
		return nil
	}
	return u
}

func parseURL(address string) (*url.URL, error) {
	const want = "want an absolute http or https URL with a host, such as http://host:8080"
	u, err := url.Parse(address)
	switch {
	case address == "":
		return nil, errors.New("empty: " + want + ", or leave the field out for a policy without an address")
	case !text.Printable(address, maxURL):
		return nil, errors.New("too long, or not printable: want at most 2000 bytes of printable text")
	case err == nil && u.User != nil || err != nil && strings.Contains(address, "@"):
		return nil, errors.New("a user or password is not allowed: secrets do not belong into a URL, which is shown and logged")
	case err != nil:
		return nil, errors.New("no URL: " + want)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the scheme %s is not allowed: %s", text.Quote(u.Scheme), want)
	case u.Hostname() == "":
		return nil, errors.New("no host: " + want)
	case !validPort(u.Port()):
		return nil, fmt.Errorf("the port %s is not allowed: want 1 to 65535", text.Short(u.Port()))
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return nil, errors.New("a query or fragment is not allowed: each call brings its own path and query, which are put after this URL's path")
	}
	return u, nil
}

func validPort(text string) bool {
	n, err := strconv.Atoi(text)
	return text == "" || err == nil && n >= 1 && n <= 65535
}

// policyFaults puts the errors of ParseOverride where their fields stand.
func (p *parser) policyFaults(config jsondoc.Value, given map[string]jsondoc.Value, err error) {
	all := []error{err}
	if joined, is := err.(interface{ Unwrap() []error }); is {
		all = joined.Unwrap()
	}
	for _, err := range all {
		if bad, is := errors.AsType[*breaker.PolicyError](err); is {
			if v, ok := given[bad.Field]; ok {
				p.refuse(v, bad.Allowed)
				continue
			}
		}
		p.Addf(config, "%v", err)
	}
}
