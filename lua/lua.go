// Package lua holds the Redis scripts and assembles them: the prelude takes the place of the line "--@prelude" in each verb.
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

// Source is the whole text of one verb's script, as it is sent to Redis.
func Source(verb string) (string, error) {
	text, err := files.ReadFile(verb + ".lua")
	if err != nil {
		return "", fmt.Errorf("script %q: %w", verb, err)
	}
	prelude, err := files.ReadFile("prelude.lua")
	if err != nil {
		return "", fmt.Errorf("script prelude: %w", err)
	}
	return strings.Replace(string(text), "--@prelude", string(prelude), 1), nil
}
