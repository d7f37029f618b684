package breakerhttp

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// responseError says why an agent's response cannot be passed on.
type responseError struct{ class, text string }

func (e *responseError) Error() string { return "breakerhttp: " + e.text }

// checkResponse refuses a response that would make its reader panic, or hold a connection that nobody can use.
func checkResponse(req *http.Request, resp *http.Response) error {
	if resp == nil {
		return errors.New("breakerhttp: Base returned neither a response nor an error")
	}
	switch status := resp.StatusCode; {
	case status < 100, status > 999: // http.ResponseWriter panics
		return &responseError{"bad_status", fmt.Sprintf("the agent answered with status %d", status)}
	case status == http.StatusSwitchingProtocols && !mayUpgrade(req.Header, resp.Header):
		text := fmt.Sprintf("the agent switched to protocol %q, which was not asked for", protocols(resp.Header))
		return &responseError{"bad_upgrade", text}
	}
	return nil
}

// mayUpgrade says that a 101 switches to protocols that the request allows, as it must (RFC 9110, 7.8).
func mayUpgrade(req, resp http.Header) bool {
	to, allowed := protocols(resp), protocols(req)
	return len(to) > 0 && !slices.ContainsFunc(to, func(p string) bool { return !contains(allowed, p) })
}

// protocols are those of an Upgrade header, which Connection must name.
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
