package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/destination"
)

// ErrOpenListener is the error of a listener that other machines reach, where nobody allowed that.
var ErrOpenListener = errors.New("other machines could use it: want a loopback address")

// CheckListen reports a BREAKERD_LISTEN that is no host:port, as an [*Error], or that is not loopback without
// BREAKERD_AUTH=none, as [ErrOpenListener]. A name other than localhost counts as not loopback, for it may resolve to
// anything.
func (c Config) CheckListen() error {
	return checkListen("BREAKERD", c.Listen, c.Auth, "127.0.0.1:18180")
}

// CheckBridge is CheckListen for BRIDGE_LISTEN and BRIDGE_AUTH. It checks AGENT_ALLOW and the variables of the inbound
// guard as well.
func (c Config) CheckBridge() error {
	errs := []error{checkListen("BRIDGE", c.BridgeListen, c.BridgeAuth, "127.0.0.1:8000")}
	if _, bad, err := destination.Parse(c.AgentAllow); err != nil {
		errs = append(errs, &Error{Name: "AGENT_ALLOW", Value: bad, Allowed: destination.Want})
	}
	switch {
	case c.InboundListen == "" && c.InboundURL != "":
		errs = append(errs, errors.New("INBOUND_URL is set, but not INBOUND_LISTEN: want both, or neither"))
	case c.InboundListen != "":
		errs = append(errs, HostPort("INBOUND_LISTEN", c.InboundListen, "127.0.0.1:8001"))
		if c.InboundURL == "" {
			errs = append(errs, errors.New("INBOUND_LISTEN is set, but not INBOUND_URL: want both, or neither"))
		}
	}
	return errors.Join(errs...)
}

func checkListen(program, listen, auth, example string) error {
	name := program + "_LISTEN"
	if err := HostPort(name, listen, example); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(listen)
	if auth != "" || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("%s=%q: %w, as %s, or %s_AUTH=none if whoever reaches the listener may do so",
		name, listen, ErrOpenListener, example, program)
}

// HostPort reports, as an [*Error], that the variable called name holds no host:port; example holds one.
func HostPort(name, listen, example string) error {
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " /@?#") {
		ipv6 := "[::1]" + example[strings.LastIndexByte(example, ':'):]
		return &Error{Name: name, Value: listen, Allowed: "host:port, as " + example + " or " + ipv6}
	}
	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
