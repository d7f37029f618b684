package breaker

import "time"

// Change is a transition of one agent's breaker, as OnStateChange of package fleet hears it: From differs from To.
type Change struct {
	Agent string
	Event
	Degraded bool // in this process's memory only, while the store was down
}

// Hold says how [Manager.Open] holds a breaker open [B17]. The zero Hold has no end.
type Hold struct {
	Reason    string        // at most 500 bytes of printable text
	Actor     string        // who asks; see [ValidWord]. "": Options.Reporter, or "library"
	For       time.Duration // rounded up to 1 ms, at most [MaxDuration]; 0: without end
	Protected bool          // only a hold, a reset or a release with Force lifts it
	Force     bool          // also lifts a protected hold
}

// Reset says how [Manager.Reset] lets a breaker, held or not, begin anew [B18]. The zero Reset closes it.
type Reset struct {
	HalfOpen bool          // half-open, so that probes decide; else closed
	Gradual  time.Duration // closed: the length of a ramp [B16], rounded up to 1 ms, at most [MaxDuration]; 0: none
	Reason   string        // at most 500 bytes of printable text
	Actor    string        // who asks; see [ValidWord]. "": Options.Reporter, or "library"
	Force    bool          // also lifts a protected hold
}

// Release says who releases a breaker by [Manager.Release], and why.
type Release struct {
	Reason string // at most 500 bytes of printable text
	Actor  string // who asks; see [ValidWord]. "": Options.Reporter, or "library"
	Force  bool   // also a protected hold
}
