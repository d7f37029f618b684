package redisstore

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// calmStore is a store with agents whose next success can share a script.
func calmStore(t *testing.T, cluster bool, agents ...string) (*Store, *redis.Client) {
	t.Helper()
	client := testkit.Start(t).Client(t)
	s, err := New(client, cluster, Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	now := int64(4_102_444_800_000)
	s.SetNow(func() int64 { return now })
	for _, successes := range []int64{10, 1, 1} { // the sums reach minimum_calls; the bucket begins; the hint is set
		for _, agent := range agents {
			if _, err := s.Apply(t.Context(), agent, breaker.DefaultPolicy(), success(successes)); err != nil {
				t.Fatal(err)
			}
		}
		if successes == 10 {
			now += 10_000
		}
	}
	return s, client
}

func success(n int64) machine.Op {
	return machine.Op{Verb: machine.VerbRecord, Epoch: machine.ZeroEpoch, Draw: machine.ZeroEpoch[1:], Summary: machine.Summary{Successes: n}}
}

// successOf is a call that records one success.
func (s *Store) successOf(agent string) *call {
	p, op := breaker.DefaultPolicy(), success(1)
	return s.callOf(s.agents.of(agent), &p, &op)
}

// together sends a success of each agent in one round trip.
func together(t *testing.T, s *Store, agents ...string) {
	t.Helper()
	var calls []*call
	for _, agent := range agents {
		calls = append(calls, s.successOf(agent))
	}
	s.send(t.Context(), &roundTrip{calls: calls})
	for i, c := range calls {
		if r := c.result; c.err != nil || r.Code != machine.CodeOK || r.State != breaker.Closed || r.Epoch != machine.ZeroEpoch {
			t.Errorf("%s: %+v, %v", agents[i], r, c.err)
		}
	}
}

func counts(t *testing.T, s *Store, want int64, agents ...string) {
	t.Helper()
	for _, agent := range agents {
		if v, err := s.Inspect(t.Context(), agent, breaker.DefaultPolicy()); err != nil || v.Successes != want {
			t.Errorf("%s: %d successes, want %d (%v)", agent, v.Successes, want, err)
		}
	}
}

// scripts is how many scripts the server has run since the last call, by name or by text.
func scripts(t *testing.T, client *redis.Client) (n int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+).*failed_calls=(\d+)`).
		FindAllStringSubmatch(client.Info(t.Context(), "commandstats").Val(), -1) {
		calls, _ := strconv.Atoi(m[1])
		failed, _ := strconv.Atoi(m[2])
		n += calls - failed
	}
	_ = client.ConfigResetStat(t.Context()).Err()
	return n
}

func TestSend_SuccessesOfOneRoundTripAreOneScript(t *testing.T) {
	t.Parallel()
	agents := []string{"a", "b", "c"}
	s, client := calmStore(t, false, agents...)
	scripts(t, client)
	together(t, s, agents...)
	if n := scripts(t, client); n != 1 {
		t.Errorf("three records took %d scripts", n)
	}
	counts(t, s, 13, agents...)
	if err := client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	together(t, s, agents...)
	counts(t, s, 14, agents...)
	scripts(t, client)
	together(t, s, "a")
	if n := scripts(t, client); n != 1 || !s.successOf("a").hint.Load() {
		t.Errorf("one record took %d scripts", n)
	}
	counts(t, s, 15, "a")
}

func TestSend_ARecordThatDoesNotQualifyHasItsOwnScript(t *testing.T) {
	t.Parallel()
	agents := []string{"a", "b", "c", "d"}
	s, client := calmStore(t, false, agents...)
	ctx := t.Context()
	for i, agent := range agents[1:] { // planted; nothing there; a run
		key := s.keys.Machine(agent)
		var err error
		switch i {
		case 0:
			_ = client.Del(ctx, key[2]).Err()
			err = client.SAdd(ctx, key[2], "planted").Err()
		case 1:
			err = client.Del(ctx, key...).Err()
		case 2:
			err = client.HSet(ctx, key[3], "run", 1).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	scripts(t, client)
	together(t, s, agents...)
	if n := scripts(t, client); n != 4 {
		t.Errorf("one record that qualifies and three others took %d scripts, want 1 and 3", n)
	}
	counts(t, s, 13, "a", "d")
	counts(t, s, 1, "b", "c")
}

func TestSend_OnAClusterEachRecordHasItsOwnScript(t *testing.T) {
	t.Parallel()
	s, client := calmStore(t, true, "a", "b")
	scripts(t, client)
	together(t, s, "a", "b")
	if n := scripts(t, client); n != 2 {
		t.Errorf("two records took %d scripts", n)
	}
}

func TestMerge_GroupsRecordsByPolicy(t *testing.T) {
	t.Parallel()
	a, b := &packedPolicy{rule: "1"}, &packedPolicy{rule: "2"}
	var calls []*call
	for _, policy := range []*packedPolicy{a, b, a, a} {
		calls = append(calls, &call{short: true, share: shareRecord, policy: agentPolicy{packedPolicy: policy}})
	}
	acquire := &call{short: true, share: shareAcquire, policy: agentPolicy{packedPolicy: a}}
	var in roundTrip
	in.merge(append(calls, acquire))
	want := []*call{calls[0], calls[2], calls[3]}
	if len(in.groups) != 1 || !slices.Equal(in.groups[0].calls, want) || calls[1].short || !calls[0].short || !acquire.short {
		t.Errorf("groups %v", in.groups)
	}
}

func TestSend_AnErrorOfManyRecordsIsThatOfEach(t *testing.T) {
	t.Parallel()
	s := new(Store)
	for _, c := range []struct {
		reply []int64
		err   error
	}{{nil, context.DeadlineExceeded}, {[]int64{1, 1}, nil}, {nil, nil}} {
		cmd := redis.NewIntSliceCmd(t.Context())
		cmd.SetErr(c.err)
		if c.err == nil {
			cmd.SetVal(c.reply)
		}
		calls := []*call{{}, {}}
		s.settleRecords(t.Context(), new(roundTrip), calls, onceInts{cmd})
		for _, call := range calls {
			if call.err == nil || call.result.Code != "" || c.err != nil && !errors.Is(call.err, c.err) {
				t.Errorf("%v: %v, %v", c, call.result, call.err)
			}
		}
	}
}

// TestSend_ADeniedKeyIsOneAgentsAlone: an ACL changes while the hints of all agents say that their records may share a
// script.
func TestSend_ADeniedKeyIsOneAgentsAlone(t *testing.T) {
	t.Parallel()
	s, client := calmStore(t, false, "a", "b", "c")
	ctx := t.Context()
	rules := []any{
		"ACL", "SETUSER", "default", "resetkeys", "~circuit_breaker:[ac]:*", "~circuit_breaker:notclosed",
		"~circuit_breaker:stream", "~circuit_breaker:audit",
	}
	if err := client.Do(ctx, rules...).Err(); err != nil {
		t.Fatal(err)
	}
	calls := []*call{s.successOf("a"), s.successOf("b"), s.successOf("c")}
	s.send(ctx, &roundTrip{calls: calls})
	if calls[0].err != nil || calls[2].err != nil || !refused(calls[1].err) {
		t.Errorf("%v, %v, %v", calls[0].err, calls[1].err, calls[2].err)
	}
	counts(t, s, 13, "a", "c")
}

// reply is an error reply.
type reply string

func (r reply) Error() string { return string(r) }
func (r reply) RedisError()   {}

// TestRefused_GoesByTheReplysFirstWord and by no word that an agent's name could bring in.
func TestRefused_GoesByTheReplysFirstWord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"ERR unknown command 'x', with args beginning with: 'NOAUTH' 'WRONGPASS' 'OOM'": true,
		"ERR user_script:1: READONLY LOADING BUSY script: f, on @user_script:1.":        true,
		"ERR user_script:1: boom":                                      true,
		"WRONGTYPE Operation against a key":                            true,
		"NOPERM User u has no permissions to access":                   true,
		"CROSSSLOT Keys in request don't hash":                         true,
		"NOPERM User u has no permissions to run the 'select' command": false,
		"ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed": false,
		"ERR Error running script (call to f_1): @user_script:1: -MISCONF Redis is configured to save":      false,
		"ERR DB index is out of range":                      false,
		"ERR SELECT is not allowed in cluster mode":         false,
		"ERR AUTH <password> called without any password":   false,
		"ERR Protocol error: unauthenticated bulk length":   false,
		"ERR max number of clients reached":                 false,
		"WRONGPASS invalid username-password pair":          false,
		"NOAUTH Authentication required.":                   false,
		"OOM command not allowed when used memory":          false,
		"MISCONF Redis is configured to save RDB snapshots": false,
		"BUSY Redis is busy running a script.":              false,
		"UNKILLABLE Sorry the script already executed":      false,
		"EXECABORT Transaction discarded":                   false,
		"NOREPLICAS Not enough good replicas to write.":     false,
		"NOSCRIPT No matching script.":                      false,
		"READONLY You can't write against a read only":      false,
		"LOADING Redis is loading the dataset in memory":    false,
		"MASTERDOWN Link with MASTER is down":               false,
		"CLUSTERDOWN The cluster is down":                   false,
		"TRYAGAIN Multiple keys request during rehashing":   false,
		"MOVED 1 127.0.0.1:1":                               false,
		"DENIED Redis is running in protected mode":         false,
		"upstream failure":                                  false,
	} {
		e, ok := errors.AsType[*breaker.StoreError](WrapError("test", "NOAUTH", reply(text)))
		if !ok || e.Refused != want || e.Unknown || e.Cut {
			t.Errorf("%s: %+v", text, e)
		}
	}
}

// TestSettle_AReplyThatCannotBeReadIsOneOperations: the script has run, and no other operation is concerned.
func TestSettle_AReplyThatCannotBeReadIsOneOperations(t *testing.T) {
	t.Parallel()
	s, err := New(testkit.Start(t).Client(t), false, Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"return 1", "return 'ok'", "return {}", "return {'ok'}", "return {1, 2, 3}", "return {'ok', 'open', 'e', 'now'}",
		"return {'ok', 'open', 'e', 1, 2, 3, '', 0, 0, '', 0, 0, 'no event'}",
	} {
		s.scripts["record"] = newScript(text)
		_, err := s.Apply(t.Context(), "a", breaker.DefaultPolicy(), success(1))
		e, ok := errors.AsType[*breaker.StoreError](err)
		if !ok || !e.Refused || !e.Unknown || e.Cut {
			t.Errorf("%s: %+v (%v)", text, e, err)
		}
	}
}
