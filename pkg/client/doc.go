// Package client calls the HTTP APIs of breakerd ([Client]) and of the bridge ([Bridge]), for programs that are no
// member of the fleet themselves: those join it with package fleet, and save the round trip.
//
// Every operation of the two OpenAPI documents is a method, whose name is the operation's id. [Client.Do] makes a call
// through a breaker, [Client.StreamEvents] follows what happens, and the methods All… read a list page by page.
//
// An answer that is no success is an [*Error], which is also what package breaker calls it: [breaker.ErrOpen] for a
// refusal, with a [*breaker.OpenError] inside.
//
// A request is sent again, to the next server, only where that does no harm: nothing of it was sent, the server says
// that nothing was done, or a second execution changes nothing. Else the error is [ErrUnknown].
package client
