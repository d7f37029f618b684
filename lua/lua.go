// Package lua holds the Redis scripts, one for each verb, and puts them together: in a verb's file, a line that begins
// with --@ stands for a part that several verbs share.
package lua

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed *.lua
var files embed.FS

// Verbs are the names of the scripts. A verb's file has its name.
func Verbs() []string {
	return []string{"acquire", "record", "records", "replay", "renew", "force", "configure", "forget", "inspect"}
}

// Shared are the names of the parts, each in a file of its name. The line --@clock stands for the part clock, and
// --@general for the last four, which are the general way and need window and buckets.
func Shared() []string {
	return []string{"clock", "numbers", "calm", "window", "buckets", "reporters", "events", "load", "advance", "save"}
}

// Source is the whole text of one verb's script, as Redis gets it.
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

// Assemble puts one verb's script together from the texts of files, by their names without .lua. It is for tests, which
// change a file.
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
