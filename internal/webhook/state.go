package webhook

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/events"
)

// The fields that Redis has of a hook, beside its lease and an episode for each agent that has one.
const (
	fieldCursor    = "cursor"       // id of the last entry that was seen to
	fieldTrying    = "trying"       // JSON: the message that was not taken yet
	fieldSent      = "sent"         // messages that were taken
	fieldError     = "last_error"   // JSON: the last one
	fieldDead      = "dead"         // dead letters, ever
	fieldLetters   = "dead_letters" // JSON: the newest, newest first
	episodeOf      = "episode:"     // before the agent's name
	maxDeadLetters = 50             // in fieldLetters
	maxError       = 200            // bytes of an error's text
)

// trying is a message that was tried, and not taken.
type trying struct {
	ID      string `json:"id"`
	Tries   int    `json:"tries"`
	SinceMs int64  `json:"since_ms"` // of the first try
	NextMs  int64  `json:"next_ms"`
}

// DeadLetter is a message that was given up, or the place of entries that the stream lost before they were read. It is
// exported for huma.
type DeadLetter struct {
	ID    string `json:"id"    doc:"Of the event, as X-Event-ID has it; of lost events, the last one before them."`
	Event string `json:"event" doc:"Its kind; lost: the stream was trimmed, or lost, before these events were read."`
	Agent string `json:"agent_id"  doc:"- for an event of no agent."`
	AtMs  int64  `json:"at_ms" doc:"When it was given up."`
	Tries int    `json:"tries"`
	Error string `json:"error" doc:"Of the last try."`
}

// lastError is the newest error of a hook.
type lastError struct {
	AtMs int64  `json:"at_ms"`
	Text string `json:"text"`
}

// state is what a hook's sender keeps in Redis for the next one. Changes are collected until save takes them.
type state struct {
	cursor   events.ID
	trying   *trying
	sent     int64
	err      *lastError
	dead     int64
	letters  []DeadLetter
	episodes map[string]*episode

	set map[string]string
	del map[string]bool
}

// readState reads the fields that Redis has. A field that was not written by save is absent [B20]. begun: there was
// a cursor.
func readState(fields map[string]string) (st *state, begun bool) {
	st = &state{episodes: map[string]*episode{}}
	st.clean()
	st.cursor, begun = events.ParseID(fields[fieldCursor])
	number := func(field string) int64 {
		n, _ := strconv.ParseInt(fields[field], 10, 64)
		return n
	}
	st.sent, st.dead = number(fieldSent), number(fieldDead)
	_ = json.Unmarshal([]byte(fields[fieldTrying]), &st.trying)
	_ = json.Unmarshal([]byte(fields[fieldError]), &st.err)
	_ = json.Unmarshal([]byte(fields[fieldLetters]), &st.letters)
	for field, text := range fields {
		agent, is := strings.CutPrefix(field, episodeOf)
		if ep := new(episode); is && json.Unmarshal([]byte(text), ep) == nil {
			st.episodes[agent] = ep
		}
	}
	return st, begun
}

// clean forgets which fields have changed: they were saved.
func (st *state) clean() { st.set, st.del = map[string]string{}, map[string]bool{} }

func (st *state) put(field, text string) {
	st.set[field] = text
	delete(st.del, field)
}

func (st *state) drop(field string) {
	st.del[field] = true
	delete(st.set, field)
}

func (st *state) putJSON(field string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and texts
	}
	st.put(field, string(text))
}

func (st *state) moveTo(cursor events.ID) {
	if cursor != st.cursor {
		st.cursor = cursor
		st.put(fieldCursor, cursor.String())
	}
}

// take does a step whose message was taken, or given up, or that has none.
func (st *state) take(s step) {
	st.moveTo(s.cursor)
	switch {
	case s.agent == "":
	case s.episode == nil:
		delete(st.episodes, s.agent)
		st.drop(episodeOf + s.agent)
	default:
		st.episodes[s.agent] = s.episode
		st.putJSON(episodeOf+s.agent, s.episode)
	}
	if s.message != nil && st.trying != nil {
		st.trying = nil
		st.drop(fieldTrying)
	}
}

// failed keeps the error of a try.
func (st *state) failed(try trying, nowMs int64, text string) {
	st.trying, st.err = &try, &lastError{nowMs, text}
	st.putJSON(fieldTrying, st.trying)
	st.putJSON(fieldError, st.err)
}

func (st *state) counted() {
	st.sent++
	st.put(fieldSent, strconv.FormatInt(st.sent, 10))
}

// bury keeps a dead letter.
func (st *state) bury(l DeadLetter) {
	st.dead++
	st.letters = append([]DeadLetter{l}, st.letters...)
	st.letters = st.letters[:min(len(st.letters), maxDeadLetters)]
	st.put(fieldDead, strconv.FormatInt(st.dead, 10))
	st.putJSON(fieldLetters, st.letters)
}
