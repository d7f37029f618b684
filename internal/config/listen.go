package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ErrOpenListener says that BREAKERD_LISTEN would let other machines operate the breakers without anyone having said so.
var ErrOpenListener = errors.New("other machines could operate the breakers: want a loopback address, as 127.0.0.1:18180, " +
	"or BREAKERD_AUTH=none if whoever reaches the listener may do so")

// CheckListen reports a BREAKERD_LISTEN that is no host:port (as an *Error), or that is not loopback while nobody
// set BREAKERD_AUTH=none (as ErrOpenListener). A name other than localhost is not loopback: who knows what it resolves to.
func (c Config) CheckListen() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " /@?#") {
		return &Error{Name: "BREAKERD_LISTEN", Value: c.Listen, Allowed: "host:port, as 127.0.0.1:18180 or [::1]:18180"}
	}
	if c.Auth != "" || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("BREAKERD_LISTEN=%q: %w", c.Listen, ErrOpenListener)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
