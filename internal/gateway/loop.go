package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

// maxBridges bounds how many bridges a call may have passed.
const maxBridges = 10

// bridgePrefix begins the pseudonym of every bridge in Via.
const bridgePrefix = "breakerd-"

// errLoop is the error of a call that came back to a bridge. It is not the agent's fault.
var errLoop = loopError{errors.New("the call came back to a bridge that it had passed")}

type loopError struct{ error }

// IgnoredByBreaker serves [breaker.Classify].
func (loopError) IgnoredByBreaker() bool { return true }

// via is the entry of one gateway in the header Via, by which it knows a call that it has already forwarded.
type via struct {
	pseudonym string
	logged    atomic.Int64 // when a loop was last logged, in nanoseconds since 1970
}

// newVia makes the entry of the gateway that id names; "": any. The pseudonym does not show id, which may name a host:
// agents may be other people's.
func newVia(id string) *via {
	if id == "" {
		id = rand.Text()
	}
	sum := sha256.Sum256([]byte(id))
	return &via{pseudonym: bridgePrefix + hex.EncodeToString(sum[:8])}
}

// add adds the entry to a request's header.
func (v *via) add(h http.Header) {
	h["Via"] = append(slices.Clip(h["Via"]), "1.1 "+v.pseudonym)
}

// looped reports whether a request has passed this gateway, or too many of our kind.
func (v *via) looped(h http.Header) bool {
	bridges := 0
	for _, line := range h["Via"] {
		for element := range strings.SplitSeq(line, ",") {
			fields := strings.Fields(element)
			if len(fields) < 2 || !strings.HasPrefix(strings.ToLower(fields[1]), bridgePrefix) {
				continue
			}
			if bridges++; bridges > maxBridges || strings.EqualFold(fields[1], v.pseudonym) {
				return true
			}
		}
	}
	return false
}

// due lets one log line a second through.
func (v *via) due() bool {
	before, now := v.logged.Load(), time.Now().UnixNano()
	return now-before >= int64(time.Second) && v.logged.CompareAndSwap(before, now)
}

func looping() *problem.Problem {
	return problem.New(problem.LoopDetected, "the call has passed this bridge before, or more than %d bridges: "+
		"the url of an agent leads back to a bridge", maxBridges)
}

// unlooped makes an error of the answer of a bridge that has detected a loop.
type unlooped struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (u unlooped) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.base.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusLoopDetected && saysLoop(resp.Header) {
		_ = resp.Body.Close() // the answer is ours
		return nil, errLoop
	}
	return resp, err
}

func saysLoop(h http.Header) bool {
	for _, line := range h[proxyStatus] {
		for member := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(member), ";")
			if name == "breakerd" && strings.Contains(params, "error="+statusLoop) {
				return true
			}
		}
	}
	return false
}
