package breaker

import (
	"context"
	"net/netip"
)

type addressKey struct{}

// WithAddress returns a context of a request from an address, host:port as [net/http.Request.RemoteAddr] has it. What
// an operator does in that context is on record with the address. Any other text, such as that of a unix socket, is no
// address.
func WithAddress(ctx context.Context, remote string) context.Context {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, addressKey{}, at.Addr().Unmap().WithZone("").String())
}

// AddressOf returns the IP address of [WithAddress]; "" without one. It is for authors of stores.
func AddressOf(ctx context.Context) string {
	address, _ := ctx.Value(addressKey{}).(string)
	return address
}
