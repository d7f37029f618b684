package machine

// MaxRun is where a run of consecutive failures stops counting [B6].
const MaxRun = 255

// Summary is what one record carries: the outcomes of one call or of a thousand, in their order [B5].
// Summaries of one closed epoch join; Join is associative, and Summary{} is its neutral element.
type Summary struct {
	Successes int64
	Failures  int64
	Slow      int64 // slow calls, whatever their outcome
	Lead      int64 // failures before the first success; all of them if there is none
	Trail     int64 // failures after the last success; all of them if there is none
	MaxRun    int64 // the longest run of failures
	WaitMs    int64 // the longest Retry-After of an upstream
}

// One is the summary of one call. waitMs is the Retry-After that came with its failure [B22].
func One(failed, slow bool, waitMs int64) Summary {
	s := Summary{Successes: 1}
	if failed {
		s = Summary{Failures: 1, Lead: 1, Trail: 1, MaxRun: 1, WaitMs: max(0, waitMs)}
	}
	if slow {
		s.Slow = 1
	}
	return s
}

// Join is the summary of s followed by t. Recording s.Join(t) opens by a run if and only if recording s and then t
// would.
func (s Summary) Join(t Summary) Summary {
	j := Summary{
		Successes: s.Successes + t.Successes,
		Failures:  s.Failures + t.Failures,
		Slow:      s.Slow + t.Slow,
		Lead:      s.Lead,
		Trail:     t.Trail,
		MaxRun:    max(s.MaxRun, t.MaxRun, s.Trail+t.Lead),
		WaitMs:    max(s.WaitMs, t.WaitMs),
	}
	if s.Successes == 0 {
		j.Lead = s.Lead + t.Lead
	}
	if t.Successes == 0 {
		j.Trail = s.Trail + t.Trail
	}
	return j
}

// Calls is the number of outcomes in s.
func (s Summary) Calls() int64 { return s.Successes + s.Failures }
