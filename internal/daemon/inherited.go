package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// inherited are the listening sockets that systemd, or who runs the parts of a process, has opened for the program, by
// the variable of their listener.
type inherited map[string]*net.TCPListener

// inherit takes the sockets over. The name of each says which listener it is for.
func (p Program) inherit(files []*os.File) (inherited, error) {
	got := inherited{}
	for _, f := range files {
		variable, err := p.listenerOf(f.Name(), len(files))
		var l *net.TCPListener
		if err == nil {
			l, err = listening(f)
		}
		if err == nil && got[variable] != nil {
			err = fmt.Errorf("a second one for %s: want one ListenStream for each name", variable)
		}
		_ = f.Close() // the listener has a descriptor of its own
		if err != nil {
			return nil, fmt.Errorf("socket %q of systemd: %w", f.Name(), err)
		}
		got[variable] = l
	}
	return got, nil
}

// listenerOf is the variable of the listener that a socket is for, which is its FileDescriptorName. The first listener
// also takes the name of its unit, which is systemd's default, and the only socket of one that gives no names.
func (p Program) listenerOf(name string, sockets int) (string, error) {
	for _, s := range p.Sockets {
		if name == s {
			return s, nil
		}
	}
	if len(p.Sockets) > 0 && (name == p.Name+".socket" || sockets == 1 && strings.HasPrefix(name, "LISTEN_FD_")) {
		return p.Sockets[0], nil
	}
	return "", fmt.Errorf("%s has no such listener: want FileDescriptorName to be %s", p.Name,
		strings.Join(p.Sockets, " or "))
}

// listening makes a listener of a TCP socket that listens.
func listening(f *os.File) (*net.TCPListener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("want a listening TCP socket: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("%s is of %s: want TCP", l.Addr(), l.Addr().Network())
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	accepts := 0
	if cause := raw.Control(func(fd uintptr) {
		accepts, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	}); cause != nil {
		return nil, cause
	}
	if err == nil && accepts == 0 {
		err = errors.New("it is a connection: want Accept=no")
	}
	return tcp, err
}

// environ replaces the variables of inherited listeners by the addresses of their sockets, so that every rule about an
// address judges the real one.
func (i inherited) environ(environ []string) []string {
	if len(i) == 0 {
		return environ
	}
	out := make([]string, 0, len(environ)+len(i))
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if i[name] == nil {
			out = append(out, v)
		}
	}
	for name, l := range i {
		out = append(out, name+"="+l.Addr().String())
	}
	return out
}
