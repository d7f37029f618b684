package redisstore

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/testkit"
)

// patience is the time-out of tests that do not test time-outs.
const patience = 10 * time.Second

// openURL opens url with patience and closes it with t.
func openURL(t *testing.T, url string, change ...func(*Options)) *Conn {
	t.Helper()
	o := Options{Timeout: patience}
	for _, f := range change {
		f(&o)
	}
	c, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// writeAndRead writes a value and reads it back.
func writeAndRead(t *testing.T, c *Conn) {
	t.Helper()
	if err := c.Client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatalf("%s: %v", c.Display, err)
	}
	if got, err := c.Client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Fatalf("%s: got %q, %v", c.Display, got, err)
	}
}

func TestOpen_OneServer(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	c := openURL(t, "redis://"+s.Addr+"/3")
	writeAndRead(t, c)
	if n, err := s.Client(t).Get(t.Context(), "k").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("database 0 holds the key of database 3: %q, %v", n, err)
	}
	if c.Cluster || c.Embedded {
		t.Errorf("%+v", c)
	}
}

func TestOpen_TakesThePasswordOfURLOrOptions(t *testing.T) {
	t.Parallel()
	const pw = "p@ss:w/rd#?%"
	s := testkit.Start(t, "--requirepass", pw)
	writeAndRead(t, openURL(t, s.URL()))
	writeAndRead(t, openURL(t, "redis://:wrong@"+s.Addr, func(o *Options) { o.Password = pw }))
	wrong := openURL(t, "redis://:s3cret@"+s.Addr)
	for range 2 {
		err := wrong.Client.Ping(t.Context()).Err()
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("with a wrong password: %v", err)
		}
	}
	if _, err := wrong.Check(t.Context()); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Check with a wrong password: %v", err)
	}
	if _, err := openURL(t, "redis://"+s.Addr).Check(t.Context()); err == nil {
		t.Error("Check without a password succeeds")
	}
}

func TestOpen_RefusesAUserWithoutPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://app@h", "redis://app:@h", "redis://h/m?sentinel_username=u"} {
		if _, err := Open(t.Context(), url, Options{}); err == nil || !strings.Contains(err.Error(), "without") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestOpen_UnixSocket(t *testing.T) {
	t.Parallel()
	s, _ := testkit.StartUnix(t, "--requirepass", "pw")
	c := openURL(t, s.URL())
	writeAndRead(t, c)
	if strings.Contains(c.Display, "pw@") {
		t.Error(c.Display)
	}
}

func TestOpen_Cluster(t *testing.T) {
	t.Parallel()
	set := testkit.StartCluster(t, "--requirepass", "pw")
	c := openURL(t, "redis+cluster://:pw@"+set.Nodes[2].Addr)
	if !c.Cluster {
		t.Error("Cluster is false")
	}
	for i := range 30 {
		if err := c.Client.Set(t.Context(), "k"+strconv.Itoa(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := c.Check(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("Check: %v, %v", w, err)
	}
	node := set.Nodes[1].Client(t)
	if err := node.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if err := node.ConfigSet(t.Context(), "maxmemory", "100mb").Err(); err != nil {
		t.Fatal(err)
	}
	if w, err := c.Check(t.Context()); err != nil || len(w) != 1 || !strings.Contains(w[0], set.Nodes[1].Addr) {
		t.Errorf("Check with one node that evicts: %v, %v", w, err)
	}
}

func TestOpen_SentinelFollowsTheMasterAndLeavesAHungSentinel(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a failover takes six seconds")
	}
	set := testkit.StartSentinel(t, "--requirepass", "pw")
	// The URL names only the sentinel that will hang: the others must be discovered.
	c := openURL(t, "redis://:pw@"+set.Sentinels[0].Addr+"/mymaster", func(o *Options) { o.Timeout = DefaultTimeout })
	testkit.Eventually(t, "the first answer", patience, func() error { return c.Client.Ping(t.Context()).Err() })
	set.Sentinels[0].Pause()
	set.Master.Kill()
	next := set.WaitFailover(t, set.Master.Addr)
	testkit.Eventually(t, "a write to the new master", 30*time.Second, func() error {
		return c.Client.Set(t.Context(), "k", "v", 0).Err()
	})
	if got, err := next.Client(t).Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Errorf("the new master holds %q, %v", got, err)
	}
}

func TestOpen_DoesNotNeedTheServer(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	c := openURL(t, s.URL(), func(o *Options) { o.Timeout = DefaultTimeout })
	s.Kill()
	var dial *dialError
	err := c.Client.Ping(t.Context()).Err()
	if !errors.As(err, &dial) || dial.Addr != s.Addr {
		t.Fatalf("got %v, want a dialError with %s", err, s.Addr)
	}
	if _, err := c.Check(t.Context()); !errors.As(err, &dial) {
		t.Errorf("Check: %v", err)
	}
	s.Restart()
	// After as many failures as the pool has connections, go-redis looks once a second.
	testkit.Eventually(t, "the server's return", patience, func() error { return c.Client.Ping(t.Context()).Err() })
}

func TestOpen_UnreachableSentinelsAndClusterAreDialErrors(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	s.Kill()
	for _, url := range []string{"redis://" + s.Addr + "/mymaster", "redis+cluster://" + s.Addr} {
		var dial *dialError
		c := openURL(t, url, func(o *Options) { o.Timeout = DefaultTimeout })
		if err := c.Client.Get(t.Context(), "k").Err(); !errors.As(err, &dial) {
			t.Errorf("%s: got %v, want a dialError", url, err)
		}
	}
}

func TestOpen_AHungServerCostsOneTimeoutAndRunsOnce(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	c := openURL(t, s.URL(), func(o *Options) { o.Timeout = DefaultTimeout })
	testkit.Eventually(t, "a connection", patience, func() error { return c.Client.Ping(t.Context()).Err() })
	s.Pause()
	err := c.Client.Incr(t.Context(), "n").Err()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a time-out", err)
	}
	s.Resume()
	client := s.Client(t)
	testkit.Eventually(t, "the late increment", patience, func() error { return client.Get(t.Context(), "n").Err() })
	if n, err := client.Get(t.Context(), "n").Int(); err != nil || n != 1 {
		t.Errorf("the command ran %d times (%v)", n, err)
	}
}

func TestCheck_WarnsOfEviction(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
	c := openURL(t, s.URL())
	w, err := c.Check(t.Context())
	if err != nil || len(w) != 1 || !strings.Contains(w[0], "volatile-lru") || !strings.Contains(w[0], "noeviction") {
		t.Errorf("Check: %q, %v", w, err)
	}
	if err := s.Client(t).ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err(); err != nil {
		t.Fatal(err)
	}
	if w, err := c.Check(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("Check with noeviction: %q, %v", w, err)
	}
}

func TestCheck_PassesAUserWhoMayNotAsk(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru",
		"--user", "app", "on", ">pw", "~*", "-@all", "+ping", "+get", "+set")
	c := openURL(t, "redis://app:pw@"+s.Addr)
	writeAndRead(t, c)
	if w, err := c.Check(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("Check: %q, %v", w, err)
	}
}

func TestCheck_NamesTheSettingThatDoesNotFit(t *testing.T) {
	t.Parallel()
	plain := testkit.Start(t, "--user", "app", "on", ">pw", "~*", "+@all").Addr
	closed := testkit.Start(t, "--requirepass", "pw").Addr
	cluster := testkit.Start(t, "--cluster-enabled", "yes").Addr // which is asked before the Cluster must be whole
	closedCluster := testkit.Start(t, "--cluster-enabled", "yes", "--requirepass", "pw").Addr
	set := testkit.StartSentinel(t, "--requirepass", "pw")
	sentinel := set.Sentinels[0].Addr
	for _, c := range []struct {
		url     string
		sayings []string
	}{
		{"redis://:s3cret@" + closed, []string{"password is wrong", "REDIS_PASSWORD", "WRONGPASS"}},
		{"redis://app:s3cret@" + plain, []string{"password is wrong", "REDIS_USERNAME", "WRONGPASS"}},
		{"redis+cluster://:s3cret@" + closedCluster, []string{"password is wrong", "REDIS_PASSWORD", "WRONGPASS"}},
		{"redis://:s3cret@" + sentinel + "/mymaster", []string{"the user or the password is wrong", "WRONGPASS"}},
		{"redis://" + closed, []string{"set REDIS_PASSWORD", "NOAUTH"}},
		{"redis+cluster://" + closedCluster, []string{"set REDIS_PASSWORD", "NOAUTH"}},
		{"redis://" + plain + "/16", []string{"no such database", "DB index is out of range"}},
		{"redis://" + cluster + "/1", []string{"redis+cluster:// in place of redis://", "SELECT"}},
		{"redis://" + cluster, []string{"redis+cluster:// in place of redis://", "redis_mode:cluster"}},
		{"redis+cluster://" + plain, []string{"redis:// in place of redis+cluster://", "cluster support disabled"}},
		{"redis://" + sentinel, []string{"is a Sentinel", "/mymaster", "redis_mode:sentinel"}},
		{"redis://:pw@" + sentinel + "/other", []string{"know no master of the name"}},
		{"redis://" + plain + "/mymaster", []string{"is no Sentinel"}},
	} {
		conn := openURL(t, c.url)
		_, err := conn.Check(t.Context())
		var settings *SettingsError
		if !errors.As(err, &settings) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", conn.Display, err)
			continue
		}
		for _, saying := range c.sayings {
			if !strings.Contains(err.Error(), saying) {
				t.Errorf("%s: %q does not say %q", conn.Display, err, saying)
			}
		}
	}
}

func TestCheck_NamesTheSentinelsPassword(t *testing.T) {
	t.Parallel()
	set := testkit.StartSentinel(t)
	for _, s := range set.Sentinels {
		if err := s.Client(t).Do(t.Context(), "acl", "setuser", "default", "resetpass", ">pw").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for query, saying := range map[string]string{"": "need a password: set REDIS_SENTINEL_PASSWORD", "?sentinel_password=s3cret": "password is wrong (REDIS_SENTINEL_PASSWORD"} {
		_, err := openURL(t, "redis://"+set.Sentinels[0].Addr+"/mymaster"+query).Check(t.Context())
		var settings *SettingsError
		if !errors.As(err, &settings) || !strings.Contains(err.Error(), saying) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, want %q", query, err, saying)
		}
	}
}

func TestCheck_KnowsTheVersionsThatWork(t *testing.T) {
	t.Parallel()
	for version, tooOld := range map[string]bool{"6.2.14": true, "7.0.0": false, "10.1": false, "": false} {
		err := checkFields(map[string]string{"redis_version": version}, "standalone")
		var settings *SettingsError
		if errors.As(err, &settings) != tooOld || tooOld && !strings.Contains(err.Error(), version) {
			t.Errorf("%q: %v", version, err)
		}
	}
	if err := checkFields(map[string]string{"redis_version": "6.2", "server_name": "valkey"}, "standalone"); err != nil {
		t.Errorf("Valkey: %v", err)
	}
}

func TestCheck_KnowsWhatEvicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		maxMemory, policy string
		warns             bool
	}{
		{"0", "allkeys-lru", false},
		{"1", "noeviction", false},
		{"1", "allkeys-lru", true},
		{"", "allkeys-lru", true},
		{"1", "", false},
		{"", "", false},
	} {
		if got := evictionWarning("h", c.maxMemory, c.policy); (got != "") != c.warns {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestOpen_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ended, "redis://h", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if _, err := Open(t.Context(), "redis://h", Options{Timeout: -1}); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("with a negative time-out: %v", err)
	}
}

func TestOpen_NamesWhatEmbeddedNeeds(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), "embedded://", Options{})
	if err == nil || !strings.Contains(err.Error(), "import github.com/breakerd/breakerd/pkg/redisstore/embedded and set ") ||
		!strings.Contains(err.Error(), "Embedded: embedded.Start") {
		t.Errorf("%v", err)
	}
}

// Not parallel: it counts goroutines.
func TestClose_LeavesNoGoroutine(t *testing.T) {
	urls := []string{testkit.Start(t).URL()}
	if !testing.Short() {
		urls = append(urls, testkit.StartSentinel(t).URL(), testkit.StartCluster(t).URL())
	}
	before := goleak.IgnoreCurrent()
	for _, url := range urls {
		c := openURL(t, url)
		writeAndRead(t, c)
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("close %s: %v", c.Display, err)
			}
		}
		if err := c.Client.Get(t.Context(), "k").Err(); err == nil {
			t.Errorf("%s answers after Close", c.Display)
		}
	}
	goleak.VerifyNone(t, before)
}
