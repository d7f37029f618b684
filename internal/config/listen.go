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

// Guarded reports whether callers are asked who they are.
func (c Config) Guarded() bool { return c.AuthFile != "" || c.TLSClientCAFile != "" }

// CheckListen reports a BREAKERD_LISTEN that is no host:port, as an [*Error], or that is not loopback where nobody is
// asked who he is, without BREAKERD_AUTH=none, as [ErrOpenListener]. A name other than localhost counts as not
// loopback, for it may resolve to anything.
func (c Config) CheckListen() error {
	return errors.Join(c.checkListen("BREAKERD", c.Listen, c.Auth, "127.0.0.1:18180"), c.checkTLS(), c.checkDebug())
}

// CheckBridge is CheckListen for BRIDGE_LISTEN and BRIDGE_AUTH. It checks AGENT_ALLOW and the variables of the inbound
// guard as well.
func (c Config) CheckBridge() error {
	errs := []error{
		c.checkListen("BRIDGE", c.BridgeListen, c.BridgeAuth, "127.0.0.1:8000"), c.checkTLS(), c.checkDebug(),
	}
	if c.AgentsAuth != "" && !c.Guarded() {
		errs = append(errs, errors.New("BRIDGE_AGENTS_AUTH=required needs AUTH_FILE or TLS_CLIENT_CA_FILE: who may call"))
	}
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

// checkDebug keeps profiles, which show what is in memory, on this machine.
func (c Config) checkDebug() error {
	if c.DebugListen == "" {
		return nil
	}
	const name, example = "DEBUG_LISTEN", "127.0.0.1:6060"
	if err := HostPort(name, c.DebugListen, example); err != nil || Loopback(c.DebugListen) {
		return err
	}
	return &Error{Name: name, Value: c.DebugListen, Allowed: "a loopback address, as " + example}
}

// checkTLS does not read the files: --health needs none of them.
func (c Config) checkTLS() error {
	switch {
	case (c.TLSCertFile == "") != (c.TLSKeyFile == ""):
		return errors.New("one of TLS_CERT_FILE and TLS_KEY_FILE is set: want both, or neither")
	case c.TLSClientCAFile != "" && c.TLSCertFile == "":
		return errors.New("TLS_CLIENT_CA_FILE is set, but not TLS_CERT_FILE and TLS_KEY_FILE: want all, or not it")
	}
	return nil
}

func (c Config) checkListen(program, listen, auth, example string) error {
	name := program + "_LISTEN"
	if err := HostPort(name, listen, example); err != nil {
		return err
	}
	if c.Guarded() || auth != "" || Loopback(listen) {
		return nil
	}
	return fmt.Errorf("%s=%q: %w, as %s, AUTH_FILE, TLS_CLIENT_CA_FILE, or %s_AUTH=none "+
		"if whoever reaches the listener may do so", name, listen, ErrOpenListener, example, program)
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

// Loopback reports whether a host:port is surely one of this machine alone.
func Loopback(listen string) bool {
	host, _, _ := net.SplitHostPort(listen)
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
