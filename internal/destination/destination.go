// Package destination decides which addresses the bridge may call as agents: by name before a name is resolved, and by
// the address that is dialled, so that a name cannot lead elsewhere than where it is allowed to.
package destination

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Allowed are the hosts that may be called. The zero value allows all but link-local addresses and those where clouds
// keep the credentials of a machine.
type Allowed struct {
	names []string // in lower case; one of "*." stands for every name below
	nets  []netip.Prefix
	given bool // something was listed
}

// Want says what an entry may be.
const Want = "hosts, patterns like *.example.com, and addresses or networks like 10.0.0.0/8, with commas between them"

// Parse reads a list with commas. bad is the entry that an error is about.
func Parse(list string) (a Allowed, bad string, err error) {
	for entry := range strings.SplitSeq(list, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		a.given = true
		if net, ok := parseNet(entry); ok {
			a.nets = append(a.nets, net)
		} else if name, ok := parseName(entry); ok {
			a.names = append(a.names, name)
		} else {
			return Allowed{}, entry, errBadEntry
		}
	}
	return a, "", nil
}

var errBadEntry = errors.New("want " + Want)

func parseNet(entry string) (netip.Prefix, bool) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")); err == nil {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), ip.Zone() == ""
	}
	p, err := netip.ParsePrefix(entry)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err == nil
}

func parseName(entry string) (string, bool) {
	name := strings.ToLower(strings.TrimSuffix(entry, "."))
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	numeric := strings.Trim(labels[len(labels)-1], "0123456789") == "" // an address with a mistake
	return name, !numeric && len(name) <= 253
}

// DeniedError is the error of a call to an address that is not allowed. It is not the agent's fault.
type DeniedError struct{ Host string }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%q is not an allowed destination (AGENT_ALLOW)", e.Host)
}

// IgnoredByBreaker serves [breaker.Classify].
func (*DeniedError) IgnoredByBreaker() bool { return true }

// Check checks a host that something else resolves and calls, as a proxy does. A name must then be listed, if anything
// is: nobody here knows its address.
func (a Allowed) Check(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return a.checkIP(ip, false)
	}
	if a.given && !a.lists(host) {
		return &DeniedError{host}
	}
	return nil
}

// Dial dials with d as far as it is allowed.
func (a Allowed) Dial(ctx context.Context, d net.Dialer, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	listed := a.lists(host)
	if _, err := netip.ParseAddr(host); err != nil && a.given && !listed && len(a.nets) == 0 {
		return nil, &DeniedError{host} // whatever it resolves to
	}
	d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return err
		}
		return a.checkIP(to.Addr(), listed)
	}
	return d.DialContext(ctx, network, address)
}

func (a Allowed) lists(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(a.names, func(name string) bool {
		below, pattern := strings.CutPrefix(name, "*")
		return name == host || pattern && len(host) > len(below) && strings.HasSuffix(host, below)
	})
}

// checkIP checks an address. listed: the name that resolved to it is on the list.
func (a Allowed) checkIP(ip netip.Addr, listed bool) error {
	ip = embedded(ip.WithZone("").Unmap())
	least := 0 // bits of the entry that allows it: a guarded address needs one of its own
	for _, g := range guarded() {
		if g.Contains(ip) {
			least, listed = g.Bits(), false
		}
	}
	if listed || !a.given && least == 0 {
		return nil
	}
	if slices.ContainsFunc(a.nets, func(p netip.Prefix) bool { return p.Bits() >= least && p.Contains(ip) }) {
		return nil
	}
	return &DeniedError{ip.String()}
}

// guarded are link-local addresses, where the metadata of a cloud's machine is too, and the other addresses of these.
func guarded() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
		netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("fd20:ce::254/128"),
	}
}

// embedded is the IPv4 address in an address of NAT64 (RFC 6052), or the address itself.
func embedded(ip netip.Addr) netip.Addr {
	if netip.MustParsePrefix("64:ff9b::/96").Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}
