package access

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"
)

func TestNewToken_PrintsATokenAndItsEntry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 11, 9, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	if err := NewToken([]string{"--name", "ci", "--role=report", "--expires", "48h", "--agents", "pay-*,x"}, &out, now); err != nil {
		t.Fatal(err)
	}
	token, entry, _ := strings.Cut(out.String(), "\n")
	f, err := parse([]byte(entry))
	if err != nil || len(f.lines) != 1 {
		t.Fatalf("%v in %s", err, &out)
	}
	c := f.lines[0].caller
	if c.Name != "ci" || c.Role != Report || !c.Until.Equal(now.Add(48*time.Hour)) || strings.Join(c.Agents, " ") != "pay-* x" {
		t.Errorf("%+v", c)
	}
	if f.lines[0].digest != sha256.Sum256([]byte(token)) || !strings.HasPrefix(token, tokenPrefix) || len(token) != len(tokenPrefix)+64 || strings.Contains(entry, token[20:]) {
		t.Errorf("%s", &out)
	}
	var again bytes.Buffer
	if err := NewToken([]string{"--name", "ci", "--role", "report"}, &again, now); err != nil || strings.HasPrefix(again.String(), token) {
		t.Errorf("%v %s", err, &again)
	}
}

func TestNewToken_RefusesBadArguments(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"": "name", "--name a": "role", "--name a --role root": "role", "--name a/b --role read": "name", "--name a --role read x": "too many",
		"--name a --role read --expires 2020-01-01T00:00:00Z": "to come", "--name a --role read --expires soon": "want a time",
		"--name a --role read --agents [": "patterns", "--nme a": "nme", "--name a --role read --agents a,,b": "patterns",
	} {
		var out bytes.Buffer
		err := NewToken(strings.Fields(args), &out, time.Now())
		if err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%q: %v, want %q; %s", args, err, want, &out)
		}
	}
}
