// Package lua holds the Redis scripts and assembles them: what verbs share takes the place of two lines in each.
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

// Shared are the parts that every writing verb has, in the order in which they follow each other. The first takes the place of
// its line "--@plain", the rest that of "--@prelude".
func Shared() []string { return []string{"plain", "prelude", "advance", "save"} }

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
	var prelude strings.Builder
	for _, part := range Shared()[1:] {
		prelude.WriteString(texts[part])
	}
	return strings.NewReplacer("--@plain\n", texts[Shared()[0]], "--@prelude\n", prelude.String()).Replace(texts[verb])
}
