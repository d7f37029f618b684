package breakerhttp

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// responseError says that an agent's response cannot be given to anybody.
type responseError struct{ class, text string }

func (e *responseError) Error() string { return "breakerhttp: " + e.text }

// unusable says why Base's response is an error: as a response it would have its reader panic, or hold a connection that nobody
// can use.
func unusable(req *http.Request, resp *http.Response) error {
	if resp == nil {
		return errors.New("breakerhttp: Base gave neither a response nor an error")
	}
	switch status := resp.StatusCode; {
	case status < 100, status > 999: // no http.ResponseWriter takes it
		return &responseError{"bad_status", fmt.Sprintf("the agent answered with status %d", status)}
	case status == http.StatusSwitchingProtocols && !asked(req.Header, resp.Header):
		return &responseError{"bad_upgrade", fmt.Sprintf("the agent switched to protocol %q, which was not asked for", protocols(resp.Header))}
	}
	return nil
}

// asked says that a switch is to what the request allows, as every 101 must be (RFC 9110, 7.8).
func asked(req, resp http.Header) bool {
	to, allowed := protocols(resp), protocols(req)
	return len(to) > 0 && !slices.ContainsFunc(to, func(p string) bool { return !contains(allowed, p) })
}

// protocols are those of an Upgrade header that Connection makes one.
func protocols(h http.Header) []string {
	if !contains(list(h, "Connection"), "Upgrade") {
		return nil
	}
	return list(h, "Upgrade")
}

// list is a header's comma-separated list.
func list(h http.Header, name string) (elements []string) {
	for element := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if element = strings.TrimSpace(element); element != "" {
			elements = append(elements, element)
		}
	}
	return elements
}

func contains(all []string, one string) bool {
	return slices.ContainsFunc(all, func(s string) bool { return strings.EqualFold(s, one) })
}
