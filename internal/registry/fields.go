package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	maxContact    = 500  // bytes
	maxURL        = 2000 // bytes
	maxLabels     = 32
	maxLabelValue = 256 // bytes
)

func (p *parser) timeout(path string, v value) time.Duration {
	if d, ok := breaker.ParseSeconds(v.number()); ok && v.is('0') && d >= time.Millisecond && d <= MaxTimeout {
		return d
	}
	p.refuse(path, v, "seconds from 0.001 to 3600, to 0.001")
	return 0
}

func (p *parser) labels(path string, v value) map[string]string {
	if !v.is('{') {
		p.refuse(path, v, `an object, {"name": "value", …}`)
		return nil
	}
	var out map[string]string
	for m := range p.fields(path, v) {
		switch {
		case !breaker.ValidWord(m.name):
			p.faultf(m.nameLine, path, "the name %s is not allowed: want 1 to 64 of A-Z a-z 0-9 . _ : @ -", quote(m.name))
		case len(out) == maxLabels:
			p.faultf(m.nameLine, path, "want at most %d labels", maxLabels)
			return out
		default:
			if out == nil {
				out = map[string]string{}
			}
			text := func(s string) bool { return printable(s, maxLabelValue) }
			out[m.name] = p.text(join(path, m.name), m.value, text, "at most 256 bytes of printable text")
		}
	}
	return out
}

// url reads an address. Its faults never show it: a password may stand in it.
func (p *parser) url(path string, v value) *url.URL {
	if !v.is('"') {
		p.refuse(path, v, "an http or https URL")
		return nil
	}
	u, err := parseURL(v.text())
	if err != nil {
		p.faultf(v.line, path, "%v", err)
		return nil
	}
	return u
}

func parseURL(text string) (*url.URL, error) {
	const want = "want an absolute http or https URL with a host, such as http://host:8080"
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, errors.New("empty: " + want + ", or leave the field out for a policy without an address")
	case !printable(text, maxURL):
		return nil, errors.New("too long, or not printable: want at most 2000 bytes of printable text")
	case err == nil && u.User != nil || err != nil && strings.Contains(text, "@"):
		return nil, errors.New("a user or password is not allowed: secrets do not belong into a URL, which is shown and logged")
	case err != nil:
		return nil, errors.New("no URL: " + want)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the scheme %s is not allowed: %s", quote(u.Scheme), want)
	case u.Hostname() == "":
		return nil, errors.New("no host: " + want)
	case !validPort(u.Port()):
		return nil, fmt.Errorf("the port %s is not allowed: want 1 to 65535", clip(u.Port()))
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return nil, errors.New("a query or fragment is not allowed: each call brings its own path and query, which are put after this URL's path")
	}
	return u, nil
}

func validPort(text string) bool {
	n, err := strconv.Atoi(text)
	return text == "" || err == nil && n >= 1 && n <= 65535
}

// config reads a circuit_breaker_config and lays it over the default, so that rules between fields are caught here.
func (p *parser) config(path string, v value) breaker.Override {
	if v.is('n') {
		return breaker.Override{}
	}
	if !v.is('{') {
		p.refuse(path, v, `an object, {"failure_threshold": 3, …}, or null`)
		return breaker.Override{}
	}
	var text []byte // without what is given twice, which has its fault
	given := map[string]member{}
	for m := range p.fields(path, v) {
		given[clip(m.name)] = m
		text = append(append(append(append(text, ','), m.quoted...), ':'), m.data...)
	}
	o, err := breaker.ParseOverride(append(append([]byte{'{'}, bytes.TrimPrefix(text, []byte{','})...), '}'))
	if err != nil {
		p.policyFaults(path, v.line, given, err)
		return breaker.Override{}
	}
	if _, _, err = breaker.Resolve(p.def, p.origins, breaker.Layer{Origin: RegistryOrigin, Override: o}); err != nil {
		p.faultf(v.line, path, "%v", err) // it is about two fields, and says where each comes from
	}
	return o
}

// policyFaults puts the errors of ParseOverride where their fields stand.
func (p *parser) policyFaults(path string, line int, given map[string]member, err error) {
	all := []error{err}
	if joined, is := err.(interface{ Unwrap() []error }); is {
		all = joined.Unwrap()
	}
	for _, err := range all {
		bad, is := errors.AsType[*breaker.PolicyError](err)
		if !is {
			p.faultf(line, path, "%v", err)
			continue
		}
		m, shown := given[bad.Field], bad.Value
		if slices.ContainsFunc(breaker.DefaultPolicy().Fields(), func(f breaker.PolicyField) bool { return f.Name == m.name }) {
			shown = m.show() // as it is written: else the value stands there as a text
		}
		p.faultf(m.line, join(path, m.name), "%s is not allowed: want %s", shown, bad.Allowed)
	}
}

func printable(text string, most int) bool {
	return len(text) <= most && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func join(path, name string) string {
	if name = clip(name); name == "" {
		name = `""`
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// clip makes foreign text fit for a message: short, printable, without its quotes.
func clip(text string) string {
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}
