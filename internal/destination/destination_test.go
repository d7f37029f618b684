package destination_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/breakerd/breakerd/internal/destination"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func parse(t *testing.T, list string) destination.Allowed {
	t.Helper()
	a, bad, err := destination.Parse(list)
	if err != nil {
		t.Fatalf("%s: %v", bad, err)
	}
	return a
}

func TestParse_NamesTheBadEntry(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"10.0.0.0/33", "10.0.0", "300.1.1.1", "host:80", "http://host", "*", "*.", "a..b", "a b", "*.*.example", "fe80::1%eth0", "::/129", "[::1]:80", "-a.example/8", "caf\u00e9.example",
	} {
		if _, got, err := destination.Parse("ok.example, " + bad + ",10.0.0.0/8"); err == nil || got != bad {
			t.Errorf("%q: got %q, %v", bad, got, err)
		}
	}
	parse(t, " a.example, *.b.example.,10.0.0.0/8,[::1], fd00::/8 ,127.0.0.1,localhost,my_host,")
}

func TestAllowed_ChecksTheAddressAndTheName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		list string
		yes  []string
		no   []string
	}{
		{
			"",
			[]string{"10.0.0.1", "127.0.0.1", "::1", "example.com", "8.8.8.8", "fd00:ec2::253"},
			[]string{"169.254.169.254", "169.254.0.1", "fe80::1", "febf::1%eth0", "::ffff:169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"},
		},
		{
			"10.0.0.0/8, a.example, *.b.example",
			[]string{"10.1.2.3", "::ffff:10.1.2.3", "A.example", "a.example.", "x.b.example", "x.y.B.example"},
			[]string{"11.0.0.1", "::1", "b.example", "xb.example", "a.example.evil", "b.a.example", "169.254.169.254"},
		},
		{"169.254.169.254", []string{"169.254.169.254", "::ffff:169.254.169.254"}, []string{"169.254.169.253", "10.0.0.1", "a"}},
		{"169.254.0.0/16,fe80::/10,fd00:ec2::254", []string{"169.254.1.1", "fe80::2%lo", "fd00:ec2::254"}, []string{"10.0.0.1"}},
		{"0.0.0.0/0,::/0", []string{"10.0.0.1", "2001:db8::1"}, []string{"169.254.169.254", "fe80::1", "fd00:ec2::254", "a.example"}},
		{"::ffff:10.0.0.0/104", []string{"10.2.3.4"}, []string{"11.0.0.0"}},
		{"10.1.2.3/8", []string{"10.9.9.9"}, []string{"11.0.0.0"}},
	} {
		a := parse(t, tt.list)
		for _, host := range tt.yes {
			if err := a.Check(host); err != nil {
				t.Errorf("%q: %s: %v", tt.list, host, err)
			}
		}
		for _, host := range tt.no {
			if denied, ok := errors.AsType[*destination.DeniedError](a.Check(host)); !ok || denied.Host == "" {
				t.Errorf("%q: %s was let through", tt.list, host)
			}
		}
	}
}

func TestAllowed_ChecksWhatANameResolvesTo(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dial := func(list, host string) error {
		c, err := parse(t, list).Dial(t.Context(), net.Dialer{}, "tcp4", net.JoinHostPort(host, port))
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	for list, hosts := range map[string][]string{
		"": {"localhost", "127.0.0.1"}, "localhost": {"localhost", "LOCALHOST"}, "127.0.0.0/8": {"localhost", "127.0.0.1"}, "127.0.0.1": {"127.0.0.1"},
	} {
		for _, host := range hosts {
			if err := dial(list, host); err != nil {
				t.Errorf("%q: %s: %v", list, host, err)
			}
		}
	}
	for list, host := range map[string]string{
		"": "169.254.1.1", "localhost": "127.0.0.1", "10.0.0.0/8": "localhost", "other.example": "localhost", "127.0.0.2": "localhost",
	} {
		err := dial(list, host)
		if _, ok := errors.AsType[*destination.DeniedError](err); !ok {
			t.Errorf("%q: %s: got %v", list, host, err)
		}
		if o := breaker.Classify(context.Background(), err); o.Kind != breaker.Ignored {
			t.Errorf("%q: %s counts as %s", list, host, o.Kind)
		}
	}
}
