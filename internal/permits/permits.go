// Package permits signs the texts of permits that go over HTTP, so that nobody can make one up. All replicas sign by
// one key, which Redis holds and which one of them replaces once a day.
package permits

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	life  = 24 * time.Hour // of the key that signs
	grace = time.Hour      // in which a key that signs no more is still good
	poll  = time.Minute    // between two looks at Redis, and less than grace
	least = time.Second    // between two looks for unknown signatures
	most  = 8              // keys that are known at once
)

// fields are those of a signed permit: a permit has one less.
const fields = 6

// Keys is where the fleet's keys are: see [redisdocs.Docs.PermitKeys].
type Keys interface {
	PermitKeys(ctx context.Context, offer string, life time.Duration) (redisdocs.PermitKeys, error)
}

// Signer signs permits, and knows those of the whole fleet. It has a key from the beginning: until Redis has told the
// fleet's, it signs with one of its own, which it offers to the fleet and knows for an hour longer than it signs with
// it. While Redis is away, the last known keys go on. It is safe for concurrent use.
type Signer struct {
	keys Keys
	log  *slog.Logger
	ring atomic.Pointer[[]key] // the first one signs

	turn  chan struct{} // holds one thing while Redis is asked, which guards the rest
	asked time.Time     // when that began last
	err   error         // what came of it
	offer string
}

// key is good until a time; the zero time: without end.
type key struct {
	secret string
	until  time.Time
}

// NewSigner asks Redis for the key, and goes on without if it is away.
func NewSigner(keys Keys, log *slog.Logger) *Signer {
	s := &Signer{keys: keys, log: log, turn: make(chan struct{}, 1), offer: fresh()}
	s.ring.Store(&[]key{{secret: s.offer}})
	s.ask(context.Background())
	return s
}

func fresh() string {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // it never fails
	return hex.EncodeToString(secret)
}

// Run follows the fleet's key until ctx ends. That of a nil Signer returns at once.
func (s *Signer) Run(ctx context.Context) {
	if s == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.pause()):
			s.turn <- struct{}{}
			s.ask(ctx)
			<-s.turn
		}
	}
}

// pause is how long to wait before Redis is asked again. If it did not answer, others may not know what this replica
// signs, and soon should.
func (s *Signer) pause() time.Duration {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.err != nil {
		return least
	}
	return poll
}

// ask reads the fleet's keys. It is the caller's turn.
func (s *Signer) ask(ctx context.Context) {
	s.asked = time.Now()
	var got redisdocs.PermitKeys
	if got, s.err = s.keys.PermitKeys(context.WithoutCancel(ctx), s.offer, life); s.err != nil {
		return // the store reports its own health
	}
	now := time.Now()
	ring := []key{{secret: got.Current}}
	if left := grace - got.Age; got.Former != "" && left > 0 {
		ring = append(ring, key{got.Former, now.Add(left)})
	}
	for _, k := range *s.ring.Load() {
		if k.until.IsZero() {
			k.until = now.Add(grace) // it signed until now
		}
		if k.secret != got.Current && k.secret != got.Former && now.Before(k.until) && len(ring) < most {
			ring = append(ring, k)
		}
	}
	s.ring.Store(&ring)
	taken := got.Current == s.offer
	s.offer = fresh() // no key is offered a second time
	if taken {
		s.log.InfoContext(ctx, "permits are signed with a new key", "event", "circuit_breaker.permit_key")
	}
}

// Sign adds a signature to the text of a permit. A nil Signer adds none.
func (s *Signer) Sign(text string) string {
	if s == nil {
		return text
	}
	return text + "." + (*s.ring.Load())[0].sign(text)
}

func (k key) sign(text string) string {
	mac := hmac.New(sha256.New, []byte(k.secret))
	_, _ = mac.Write([]byte(text)) // a hash takes all
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// Verify returns the text of a permit without its signature. The error is [breaker.ErrBadPermit] if no replica has
// signed it within the last day and hour, or [breaker.ErrStoreUnavailable] if Redis, which may know, is away. A
// signature that nobody knows waits until Redis may be asked again, a second at most: so a replica learns a key that
// another one has made. A nil Signer believes every signature, and takes permits without one.
func (s *Signer) Verify(ctx context.Context, signed string) (text string, err error) {
	text = strip(signed)
	switch {
	case s == nil:
		return text, nil
	case len(text) == len(signed):
		return "", breaker.ErrBadPermit
	}
	signature := signed[len(text)+1:]
	if s.known(text, signature) {
		return text, nil
	}
	if err := s.look(ctx); err != nil {
		return "", err
	}
	if s.known(text, signature) {
		return text, nil
	}
	return "", breaker.ErrBadPermit
}

// strip takes the signature off a permit that has one.
func strip(text string) string {
	if at := strings.LastIndexByte(text, '.'); strings.Count(text, ".") == fields-1 {
		return text[:at]
	}
	return text
}

// look asks as soon as that is allowed, unless somebody else does meanwhile.
func (s *Signer) look(ctx context.Context) error {
	came := time.Now()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !s.asked.After(came) {
		pause := time.NewTimer(least - time.Since(s.asked))
		defer pause.Stop()
		select {
		case <-pause.C:
			s.ask(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.err != nil {
		return breaker.ErrStoreUnavailable // nothing was done with the permit
	}
	return nil
}

func (s *Signer) known(text, signature string) bool {
	now := time.Now()
	for _, k := range *s.ring.Load() {
		if (k.until.IsZero() || now.Before(k.until)) && hmac.Equal([]byte(k.sign(text)), []byte(signature)) {
			return true
		}
	}
	return false
}
