package testkit

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

// quiet drops go-redis's own log lines: these tests break connections.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func ping(t *testing.T, client redis.Cmdable) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return client.Ping(ctx).Err()
}

func TestServer_RestartsEmpty(t *testing.T) {
	t.Parallel()
	s := Start(t)
	client := s.Client(t)
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if err := s.Client(t).Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Fatalf("after a restart GET answers %v, want nil", err)
	}
	if want := "redis://" + s.Addr + "/0"; s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
}

func TestServer_RefusesOnceKilled(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Kill()
	s.Kill()
	if err := ping(t, s.Client(t)); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart()
	if err := ping(t, s.Client(t)); err != nil {
		t.Fatal(err)
	}
}

func TestServer_IsSilentWhilePaused(t *testing.T) {
	t.Parallel()
	s := Start(t)
	client := s.Client(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var timeout net.Error
	if err := client.Ping(ctx).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("a paused server answers: %v", err)
	}
	s.Resume()
	if err := ping(t, client); err != nil {
		t.Fatal(err)
	}
}

func TestServer_PutsPasswordInClientAndURL(t *testing.T) {
	t.Parallel()
	s := Start(t, "--requirepass", "p@ss:w/rd")
	if err := ping(t, s.Client(t)); err != nil {
		t.Fatal(err)
	}
	if want := "redis://:p%40ss%3Aw%2Frd@" + s.Addr + "/0"; s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	bare := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer func() { _ = bare.Close() }()
	if err := ping(t, bare); err == nil {
		t.Error("the server answers without a password")
	}
}

func TestServer_ListensOnUnixSocketOnly(t *testing.T) {
	t.Parallel()
	s, path := StartUnix(t)
	if err := ping(t, s.Client(t)); err != nil {
		t.Fatal(err)
	}
	if want := "unix://" + path + "?db=0"; s.URL() != want || s.Port != 0 {
		t.Errorf("URL %q, port %d; want %q, 0", s.URL(), s.Port, want)
	}
}

func TestServer_DemandsClientCertificateWithTLS(t *testing.T) {
	t.Parallel()
	ca := NewCA(t)
	s := StartTLS(t, ca)
	if err := ping(t, s.Client(t)); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string]*Pair{"none": nil, "of another CA": new(NewCA(t).ClientPair(t))} {
		opt := s.options()
		opt.TLSConfig = s.tls.Clone()
		opt.TLSConfig.Certificates = nil
		if pair != nil {
			opt.TLSConfig = ca.ClientConfig(t, *pair, "localhost")
		}
		client := redis.NewClient(opt)
		if err := ping(t, client); err == nil {
			t.Errorf("the server accepts a client certificate: %s", name)
		}
		_ = client.Close()
	}
}

func TestServer_ChoosesAnotherPortWhenTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).Port
	s := newServer(t)
	calls := 0
	s.freePort = func() (int, error) {
		if calls++; calls == 1 {
			return taken, nil
		}
		return freePort()
	}
	s.start()
	if s.Port == taken || calls != 2 {
		t.Fatalf("port %d after %d attempts; %d was taken", s.Port, calls, taken)
	}
	if err := ping(t, s.Client(t)); err != nil {
		t.Fatal(err)
	}
}

func TestServer_FailsWithItsOutputWhenItCannotStart(t *testing.T) {
	t.Parallel()
	rec := record(t, func(t T) { Start(t, "--no-such-option", "1") })
	if !rec.failed || !strings.Contains(rec.text, "no-such-option") {
		t.Fatalf("failed %v, said %q", rec.failed, rec.text)
	}
}

// Not parallel: it empties PATH.
func TestServer_NamesPackageWhenNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	rec := record(t, func(t T) { Start(t) })
	if !rec.failed || !strings.Contains(rec.text, "apt-get install redis-server") {
		t.Fatalf("failed %v, said %q", rec.failed, rec.text)
	}
}

//nolint:tparallel // the inner test must have ended before the check
func TestServer_EndsWithItsTest(t *testing.T) {
	t.Parallel()
	var s *Server
	t.Run("inner", func(t *testing.T) { s = Start(t) })
	if s.proc.Running() {
		t.Error("the server outlives its test")
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}

func TestSentinelSet_FailsOver(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a failover takes six seconds")
	}
	set := StartSentinel(t, "--requirepass", "pw")
	if want := set.Sentinels[0].Addr + "," + set.Sentinels[1].Addr + "," + set.Sentinels[2].Addr + "/mymaster"; set.URL() != "redis://:pw@"+want {
		t.Errorf("URL %q, want …%s", set.URL(), want)
	}
	old := set.Master.Addr
	if got, err := set.agreedMaster(); err != nil || got != old {
		t.Fatalf("master %s (%v), want %s", got, err, old)
	}
	set.Master.Kill()
	next := set.WaitFailover(t, old)
	if got, err := set.agreedMaster(); err != nil || got != next.Addr {
		t.Errorf("the sentinels say %s (%v), the new master is %s", got, err, next.Addr)
	}
	if err := next.Client(t).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("the new master does not take writes: %v", err)
	}
	set.Master.Restart()
	returned := set.Master.Client(t)
	Eventually(t, "the old master to follow", quorumTimeout, func() error {
		return infoHas(returned, "replication", "role:slave")
	})
}

func TestClusterSet_ServesEverySlot(t *testing.T) {
	t.Parallel()
	set := StartCluster(t)
	client := set.client(t)
	for i := range 50 {
		key := "k" + strconv.Itoa(i)
		if err := client.Set(t.Context(), key, i, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := client.Get(t.Context(), key).Int(); err != nil || got != i {
			t.Fatalf("%s = %d, %v", key, got, err)
		}
	}
	for _, node := range set.Nodes {
		if n, err := node.Client(t).DBSize(t.Context()).Result(); err != nil || n == 0 {
			t.Errorf("node %s holds %d keys (%v)", node.Addr, n, err)
		}
	}
	if want := "redis+cluster://" + strings.Join(set.addrs(), ","); set.URL() != want {
		t.Errorf("URL %q, want %q", set.URL(), want)
	}
}
