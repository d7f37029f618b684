// Package lua holds the Redis scripts and assembles them: the prelude's parts take the place of the line "--@prelude" in each verb.
package lua

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed *.lua
var files embed.FS

// Verbs are the scripts, each named as the file that holds it.
func Verbs() []string {
	return []string{"acquire", "record", "renew", "force", "configure", "forget", "inspect"}
}

// Prelude are the parts of what every writing verb shares, in the order in which they follow each other.
func Prelude() []string { return []string{"prelude", "advance", "save"} }

// Source is the whole text of one verb's script, as it is sent to Redis.
func Source(verb string) (string, error) {
	text, err := files.ReadFile(verb + ".lua")
	if err != nil {
		return "", fmt.Errorf("script %q: %w", verb, err)
	}
	var prelude strings.Builder
	for _, part := range Prelude() {
		b, err := files.ReadFile(part + ".lua")
		if err != nil {
			return "", fmt.Errorf("script prelude: %w", err)
		}
		prelude.Write(b)
	}
	return strings.Replace(string(text), "--@prelude", prelude.String(), 1), nil
}
