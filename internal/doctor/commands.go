package doctor

import (
	"cmp"
	"net"
	"strings"
)

// commands makes the commands of a Report. Each works as it stands, in a shell.
type commands struct {
	program string
	curl    string
}

func newCommands(o Options) commands {
	c := commands{program: cmp.Or(o.Program, "breakerctl"), curl: "curl -s "}
	if o.Token {
		c.curl += `-H "Authorization: Bearer $BREAKERCTL_TOKEN" `
	}
	return c
}

// ctl is a command of breakerctl.
func (c commands) ctl(args string) string { return c.program + " " + args }

// check shows one check of a server's health.
func (c commands) check(server, name string) string {
	return c.curl + Quote(strings.TrimRight(server, "/")+"/health/checks") + " | jq .checks." + name
}

// replica shows what a replica says of itself to the others.
func (c commands) replica(server, id string) string {
	return c.curl + Quote(strings.TrimRight(server, "/")+"/v1/admin/replicas") +
		" | jq " + Quote(`.replicas[] | select(.id == "`+id+`")`)
}

// redis is a command for a server of Redis, whose address or URL without secrets is given. redis-cli takes the password
// from REDISCLI_AUTH.
func (commands) redis(server, command string) string {
	scheme, rest, ok := strings.Cut(server, "://")
	if !ok {
		scheme, rest = "redis", server
	}
	if _, after, found := strings.Cut(rest, "@"); found {
		rest = after
	}
	if scheme == "unix" {
		path, _, _ := strings.Cut(rest, "?")
		return "redis-cli -s " + Quote(path) + " " + command
	}
	rest, _, _ = strings.Cut(rest, "?")
	addresses, name, _ := strings.Cut(rest, "/")
	first, _, _ := strings.Cut(addresses, ",")
	host, port, err := net.SplitHostPort(first)
	if err != nil {
		host, port = first, "6379"
	}
	cli := "redis-cli "
	if strings.HasPrefix(scheme, "rediss") {
		cli += "--tls "
	}
	at := cli + "-h " + Quote(host) + " -p " + Quote(port) + " "
	if name != "" && strings.Trim(name, "0123456789") != "" { // of a master that Sentinels know
		return "(set -- $(" + at + "SENTINEL get-master-addr-by-name " + Quote(name) + "); " +
			cli + "-h $1 -p $2 " + command + ")"
	}
	return at + command
}

// Quote is a word of a shell.
func Quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !strings.ContainsRune(plain, r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@/=,+-"
