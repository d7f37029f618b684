package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/view"
)

// The headers of a message.
const (
	headerID        = "X-Event-Id" // the event's id: the same when a message is sent again
	headerSignature = "X-Breakerd-Signature"
)

// message is the body of formatJSON: an entry of the stream, as GET /v1/admin/events shows it.
type message struct {
	view.StreamEntry

	Episode *episodeView `json:"episode,omitempty"`
}

// episodeView is the episode that a message begins or ends.
type episodeView struct {
	BeganAt  *string `json:"began_at"` // null: it began before the hook
	Openings int     `json:"openings"`
	Over     bool    `json:"over"`
}

func newMessage(e events.Entry, of *episode, over bool) *message {
	m := &message{StreamEntry: view.StreamEntryOf(e.ID.String(), e.Agent, e.Event)}
	if of != nil {
		m.Episode = &episodeView{BeganAt: view.Stamp(of.BeganMs), Openings: of.Openings, Over: over}
	}
	return m
}

// body is the message in a format.
func (m *message) body(format string) ([]byte, error) {
	if format == formatSlack {
		return json.Marshal(map[string]any{"text": m.text(), "mrkdwn": false})
	}
	return json.Marshal(m)
}

// text is the message in a line, in which no part of it is taken for markup or for a mention by Slack.
func (m *message) text() string {
	who := "fleet"
	if m.AgentID != nil {
		who = *m.AgentID
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", who, m.Event.Event)
	if m.From != nil && m.To != nil && *m.From != *m.To {
		fmt.Fprintf(&b, ", %s to %s", *m.From, *m.To)
	}
	if m.Actor != nil {
		fmt.Fprintf(&b, " by %s", *m.Actor)
	}
	if m.Reason != "" {
		fmt.Fprintf(&b, ": %s", m.Reason)
	}
	if m.Calls > 0 {
		fmt.Fprintf(&b, " (%d of %d calls failed)", m.Failures, m.Calls)
	}
	if e := m.Episode; e != nil && e.Over && e.BeganAt != nil {
		fmt.Fprintf(&b, "; %d openings since %s", e.Openings, *e.BeganAt)
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(b.String())
}

// sign is the signature of a body that is sent at a time, in seconds since 1970: one v1 for each secret.
func sign(secrets []string, at int64, body []byte) string {
	out := []string{"t=" + strconv.FormatInt(at, 10)}
	for _, secret := range secrets {
		h := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(h, "%d.%s", at, body)
		out = append(out, "v1="+hex.EncodeToString(h.Sum(nil)))
	}
	return strings.Join(out, ",")
}
