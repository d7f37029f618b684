package config

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden stands where a secret stood.
const hidden = "***"

// Secret is text that no log line, error or JSON shows: however it is formatted, it is ***. Reveal gives the text.
type Secret string

// Reveal gives the secret, for the one who has to present it.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret; an empty one is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format hides the secret from every verb, wrong ones included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
