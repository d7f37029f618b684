package config

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden is shown in place of a secret.
const hidden = "***"

// Secret is text that is formatted, logged and encoded as ***. [Secret.Reveal] returns it.
type Secret string

// Reveal returns the secret.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret; an empty one is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format implements [fmt.Formatter], so that no verb shows the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
