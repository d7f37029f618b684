package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func (c *Replica) warnf(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// warnOfPolicy reports settings that undo each other.
func (c *Replica) warnOfPolicy() {
	p := c.Policy
	slow := p.SlowCallDuration > 0 && p.SlowCallRateThreshold > 0
	failures := p.FailureThreshold != breaker.Off || p.FailureRateThreshold != breaker.Off
	if !slow && !failures && p.RetryAfter != breaker.RetryAfterOpen {
		c.warnf("%[1]sFAILURE_THRESHOLD, %[1]sFAILURE_RATE_THRESHOLD and %[1]sSLOW_CALL_RATE_THRESHOLD are off: "+
			"no breaker ever opens by itself", policyPrefix)
	}
	if !slow && (p.SlowCallDuration > 0 || p.SlowCallRateThreshold > 0) {
		c.warnf("%[1]sSLOW_CALL_DURATION_SECONDS and %[1]sSLOW_CALL_RATE_THRESHOLD have no effect without each other",
			policyPrefix)
	}
	if p.HalfOpenSuccessThreshold > p.HalfOpenMaxCalls {
		c.warnf("%[1]sHALF_OPEN_SUCCESS_THRESHOLD (%[2]d) is more than %[1]sHALF_OPEN_MAX_CALLS (%[3]d): "+
			"%[3]d successes close a breaker", policyPrefix, p.HalfOpenSuccessThreshold, p.HalfOpenMaxCalls)
	}
	if c.RedisTTL < p.WindowSize {
		c.warnf("REDIS_TTL_SECONDS (%v) is less than %sWINDOW_SIZE_SECONDS (%v): "+
			"an agent that is seldom called loses its history early", c.RedisTTL, policyPrefix, p.WindowSize)
	}
	if c.MaxStaleness < 4*c.FlushInterval {
		c.warnf("%[1]sMAX_STALENESS_MS (%[2]d) is less than four times %[1]sFLUSH_INTERVAL_MS (%[3]d): "+
			"cached agents ask Redis again before it has their outcomes",
			policyPrefix, c.MaxStaleness.Milliseconds(), c.FlushInterval.Milliseconds())
	}
}

// warnOfNames reports variables that are none of ours and were probably meant to be.
func (c *Replica) warnOfNames(all environment) {
	known := []string{"DEMO_LISTEN", "DEMO_AGENTS"}
	for _, v := range documented() {
		known = append(known, v.name)
	}
	for _, name := range slices.Sorted(maps.Keys(all.set)) {
		if slices.Contains(known, name) || foreign(name, all.set[name].text) {
			continue
		}
		if meant := intended(strings.ToUpper(name), known); meant != "" {
			c.warnf("%s is unknown and changes nothing; the nearest known name is %s", name, meant)
		}
	}
}

// serviceLink matches the variables that Kubernetes and Docker set for a service called redis or bridge.
var serviceLink = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$|_ENV_\w+$`)

// foreign says whether somebody else sets a variable that looks like one of ours: an orchestrator, the image redis, the
// compose files, or habit.
func foreign(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://") ||
		slices.Contains([]string{
			"REDIS_NAME", "REDIS_VERSION", "REDIS_DOWNLOAD_URL", "REDIS_DOWNLOAD_SHA", "REDIS_IMAGE", "REDIS_MAXMEMORY",
			"REDIS_EXPORTER_IMAGE",
			"REDIS_PASSWORD_SECRET", "BREAKERD_IMAGE", "BREAKERD_PORT", "BRIDGE_IMAGE", "BRIDGE_PORTS",
			"LOG_DIR", "LOG_FILE", "LOG_PATH",
		}, name)
}

// intended is the known name that an unknown one was probably meant to be, "" if it is probably not meant for us.
func intended(name string, known []string) string {
	name, stemedb := strings.CutPrefix(name, "STEMEDB_")
	if stemedb && slices.Contains(known, name) {
		return name
	}
	for _, unit := range []string{"_SECONDS", "_MS"} {
		if slices.Contains(known, name+unit) {
			return name + unit
		}
	}
	best := slices.MinFunc(known, func(a, b string) int { return text.Edits(name, a) - text.Edits(name, b) })
	if d := text.Edits(name, best); d <= 1 || d == 2 && len(best) >= 12 {
		return best
	}
	for _, prefix := range []string{policyPrefix, "REDIS_", "BREAKERD_", "BRIDGE_", "INBOUND_", "SHUTDOWN_", "LOG_"} {
		rest, ours := strings.CutPrefix(name, prefix)
		if !ours {
			continue
		}
		if slices.Contains([]string{"ADDR", "ADDRESS", "BIND", "HOST", "PORT", "URI"}, rest) {
			for _, k := range []string{prefix + "LISTEN", prefix + "URL"} {
				if slices.Contains(known, k) {
					return k
				}
			}
		}
		other := func(k string) bool { return !strings.HasPrefix(k, prefix) }
		return nearest(name, slices.DeleteFunc(slices.Clone(known), other))
	}
	return ""
}

// nearest is the known name that takes the fewest edits to reach, less the length of the shared beginning: TIMEOUT is
// rather TIMEOUT_MAX_SECONDS than MODE.
func nearest(name string, known []string) string {
	distance := func(k string) int { return text.Edits(name, k) - shared(name, k) }
	return slices.MinFunc(known, func(a, b string) int { return distance(a) - distance(b) })
}

func shared(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
