package access

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func from(remote string) *http.Request { return &http.Request{RemoteAddr: remote} }

func TestRate_CountsByNameAndElseByAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := 0
		l := NewRate(3, func() { refused++ })
		burst := func(r *http.Request, c *Caller) (passed int) {
			for range 10 {
				p := l.Take(r, c)
				if p == nil {
					passed++
				} else if p.Code != problem.RateLimited || p.Status != http.StatusTooManyRequests {
					t.Errorf("%v", p)
				}
			}
			return passed
		}
		ann, bob := &Caller{Name: "ann"}, &Caller{Name: "bob"}
		for _, c := range []struct {
			what string
			r    *http.Request
			c    *Caller
			want int
		}{
			{"a name", from("192.0.2.1:1"), ann, 3},
			{"the same name from elsewhere", from("192.0.2.2:1"), ann, 0},
			{"another name from the first address", from("192.0.2.1:1"), bob, 3},
			{"an address", from("192.0.2.1:1"), everybody, 3},
			{"another port of the address", from("192.0.2.1:2"), everybody, 0},
			{"the address, of a caller who is not known", from("192.0.2.1:3"), nil, 0},
			{"a network of IPv6", from("[2001:db8::1]:1"), nil, 3},
			{"another address of the network", from("[2001:db8::2]:1"), nil, 0},
			{"another network", from("[2001:db8:0:1::1]:1"), nil, 3},
		} {
			if got := burst(c.r, c.c); got != c.want {
				t.Errorf("%s: %d requests pass, want %d", c.what, got, c.want)
			}
		}
		if refused != 9*10-5*3 {
			t.Errorf("%d refused", refused)
		}
		time.Sleep(time.Second)
		if got := burst(from("192.0.2.1:1"), ann); got != 3 {
			t.Errorf("a second later %d pass", got)
		}
	})
}

func TestRate_KnowsABoundedNumberOfClients(t *testing.T) {
	t.Parallel()
	l := NewRate(1, func() {})
	for i := range 3 * rated {
		l.Take(from(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)), nil)
	}
	if n := l.clients.Len(); n > rated {
		t.Errorf("%d clients are known", n)
	}
}

func TestRate_ANilOneBoundsNothing(t *testing.T) {
	t.Parallel()
	for range 100 {
		if p := NewRate(0, nil).Take(from("192.0.2.1:1"), nil); p != nil {
			t.Fatal(p)
		}
	}
}
