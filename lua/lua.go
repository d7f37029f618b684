// Package lua holds the Redis scripts and assembles them: what verbs share takes the place of a line in each.
package lua

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed *.lua
var files embed.FS

// Verbs are the scripts, each named as the file that holds it.
func Verbs() []string {
	return []string{"acquire", "record", "records", "replay", "renew", "force", "configure", "forget", "inspect"}
}

// Shared are the parts that several verbs have. A line "--@clock" in a verb's file stands for the part clock;
// "--@general" for the last four, which are the general way and need window and buckets.
func Shared() []string {
	return []string{"clock", "numbers", "calm", "window", "buckets", "reporters", "events", "load", "advance", "save"}
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
	include := regexp.MustCompile(`(?m)^--@(\w+)\n`)
	return include.ReplaceAllStringFunc(texts[verb], func(line string) string {
		name := strings.TrimSuffix(strings.TrimPrefix(line, "--@"), "\n")
		if name == "general" {
			return texts["events"] + texts["load"] + texts["advance"] + texts["save"]
		}
		return texts[name]
	})
}
