package policy

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Record is an override as Redis keeps it: with who made it, when, why, and until when it counts.
type Record struct {
	Override

	By     string    // "": unknown
	At     time.Time // zero: unknown
	Reason string
	Until  time.Time // zero: it has no end
}

// maxReason bounds Record.Reason in bytes.
const maxReason = 500

// Ended reports whether the override no longer counts.
func (r Record) Ended(now time.Time) bool { return !r.Until.IsZero() && !now.Before(r.Until) }

// set reads a field that says something of the override.
func (r *Record) set(name string, v jsondoc.Value) error {
	word, allowed := v.Text(), "no such field"
	ok := v.Kind() == jsondoc.Text
	switch name {
	case "_by":
		allowed = "1 to 64 of A-Z a-z 0-9 . _ : @ -"
		if ok = ok && breaker.ValidWord(word); ok {
			r.By = word
		}
	case "_reason":
		allowed = "at most 500 bytes of printable text"
		if ok = ok && text.Printable(word, maxReason); ok {
			r.Reason = word
		}
	case "_at", "_until":
		allowed = "a time such as 2026-02-11T09:00:00Z"
		at, err := time.Parse(time.RFC3339, word)
		if ok = ok && err == nil && at.Year() > 0 && at.Year() < 10_000; ok && name == "_at" {
			r.At = at
		} else if ok {
			r.Until = at
		}
	case "_ended": // as it is shown; Until says so
		allowed = "true or false"
		ok = v.Kind() == jsondoc.Boolean
	default:
		ok = false
	}
	if !ok {
		return &breaker.PolicyError{Field: text.Short(name), Value: v.Show(), Allowed: allowed}
	}
	return nil
}

// MarshalJSON writes what [ParseRecord] reads, times to the second.
func (r Record) MarshalJSON() ([]byte, error) {
	out, err := r.Override.MarshalJSON()
	if err != nil {
		return nil, err
	}
	stamp := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.UTC().Format(time.RFC3339)
	}
	meta, err := json.Marshal(struct {
		By     string `json:"_by,omitempty"`
		At     string `json:"_at,omitempty"`
		Reason string `json:"_reason,omitempty"`
		Until  string `json:"_until,omitempty"`
	}{r.By, stamp(r.At), r.Reason, stamp(r.Until)})
	if err != nil {
		return nil, err
	}
	both := strings.Trim(string(bytes.Join([][]byte{out[1 : len(out)-1], meta[1 : len(meta)-1]}, []byte{','})), ",")
	return []byte("{" + both + "}"), nil
}

// UnmarshalJSON is [ParseRecord].
func (r *Record) UnmarshalJSON(data []byte) error {
	parsed, err := ParseRecord(data)
	if err == nil {
		*r = parsed
	}
	return err
}
