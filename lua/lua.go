// Package lua holds the Redis scripts and assembles them: what verbs share takes the place of a line in each.
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
	return []string{"acquire", "record", "records", "renew", "force", "configure", "forget", "inspect"}
}

// Shared are the parts that several verbs have. Each takes the place of the line "--@" and its name, but for the last two: they
// follow prelude.
func Shared() []string {
	return []string{"plain", "calm", "words", "counted", "prelude", "advance", "save"}
}

// Source is the whole text of one verb's script, as it is sent to Redis.
func Source(verb string) (string, error) {
	texts := map[string]string{}
	for _, name := range append(Shared(), verb) {
		text, err := files.ReadFile(name + ".lua")
		if err != nil {
			return "", fmt.Errorf("script %q: %w", name, err)
		}
		texts[name] = string(text)
	}
	return Assemble(verb, texts), nil
}

// Assemble makes the whole text of one verb's script of the texts of its parts.
func Assemble(verb string, texts map[string]string) string {
	var pairs []string
	for _, part := range Shared() {
		text := texts[part]
		if part == "prelude" {
			text += texts["advance"] + texts["save"]
		}
		pairs = append(pairs, "--@"+part+"\n", text)
	}
	return strings.NewReplacer(pairs...).Replace(texts[verb])
}
