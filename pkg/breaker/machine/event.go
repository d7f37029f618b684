package machine

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Event kinds, as the log and the attribute event=circuit_breaker.<kind> name them.
const (
	EventOpened        = "opened"         // a transition to open [B10]
	EventHalfOpened    = "half_opened"    // a transition to half-open [B12]
	EventClosed        = "closed"         // a transition to closed [B16]
	EventManualOpen    = "manual_open"    // an operator holds it open [B17]
	EventManualClose   = "manual_close"   // an operator holds it closed [B17]
	EventManualReset   = "manual_reset"   // an operator reset it [B18]
	EventManualRelease = "manual_release" // an operator ended a hold [B17]
	EventHoldExpired   = "hold_expired"   // a hold ended by itself [B17]
	EventExternalEdit  = "hand_edit"      // somebody edited the keys [B19]
	EventEditUndone    = "hand_restored"  // an edit against a protected hold was undone
	EventRepaired      = "healed"         // bad fields were removed [B20]
	EventConfigured    = "configured"     // somebody changed the agent's override or profile
	EventForgotten     = "forgotten"      // somebody deleted the agent
)

// Event is one line of an agent's log.
type Event struct {
	AtMs     int64  // when it fell due, which may be before anybody noticed [B11]
	Kind     string // one of the constants Event…
	From, To State  // equal if the event is no transition
	Epoch    string // after the event
	Actor    string // who caused it; "-": the machine
	Failures int64  // this and the next three: the Evidence of the last opening; 0 once closed
	Calls    int64
	Run      int64
	Slow     int64
	Text     string // cause or reason, not clipped
	Address  string // the IP address that the actor asked from; "": unknown
}

// String is the event as the log, the channel and the streams carry it:
// "at_ms kind from>to epoch actor failures/calls/run/slow text", where the text is [Addressed].
func (e Event) String() string {
	return fmt.Sprintf("%d %s %s>%s %s %s %d/%d/%d/%d %s", e.AtMs, e.Kind, e.From, e.To, e.Epoch, e.Actor,
		e.Failures, e.Calls, e.Run, e.Slow, Addressed(e.Actor, e.Address, e.Text))
}

// Addressed is the text of an event as its line has it. What an actor asked for from a known address has that before
// it, "@10.0.0.7 reason". A text that begins with @ has an address in any case, "@- @reason": none can be forged by it.
func Addressed(actor, address, text string) string {
	if actor == "-" || address == "" && !strings.HasPrefix(text, "@") {
		return text
	}
	return "@" + cmp.Or(address, "-") + " " + text
}

// cutAddress undoes Addressed.
func cutAddress(actor, line string) (address, text string) {
	rest, is := strings.CutPrefix(line, "@")
	if actor == "-" || !is {
		return "", line
	}
	address, text, _ = strings.Cut(rest, " ")
	if address == "-" {
		return "", text
	}
	if _, err := netip.ParseAddr(address); err != nil { // of a version that knew none
		return "", line
	}
	return address, text
}

// ParseEvent reads what String wrote. ok is false for anything else, such as a line that somebody added to the log.
func ParseEvent(line string) (e Event, ok bool) {
	f := strings.SplitN(line, " ", 7)
	if len(f) != 7 {
		return e, false
	}
	at, err := strconv.ParseInt(f[0], 10, 64)
	from, to, ok := strings.Cut(f[2], ">")
	n := strings.Split(f[5], "/")
	if err != nil || !ok || len(n) != 4 && len(n) != 3 { // versions without slow calls wrote three
		return e, false
	}
	var v [4]int64
	for i := range n {
		if v[i], err = strconv.ParseInt(n[i], 10, 64); err != nil {
			return e, false
		}
	}
	address, text := cutAddress(f[4], f[6])
	return Event{
		AtMs: at, Kind: f[1], From: State(from), To: State(to), Epoch: f[3], Actor: f[4],
		Failures: v[0], Calls: v[1], Run: v[2], Slow: v[3], Text: text, Address: address,
	}, true
}

// Transition says that the event changed the breaker's state, as a repair or a change of its policy does not.
func (e Event) Transition() bool { return e.From != e.To && e.From != "" && e.To != "" }

// Manual says that a person caused the event. Such events are in the audit stream too.
func (e Event) Manual() bool {
	switch e.Kind {
	case EventManualOpen, EventManualClose, EventManualReset, EventManualRelease, EventExternalEdit, EventEditUndone,
		EventConfigured, EventForgotten:
		return true
	}
	return false
}
