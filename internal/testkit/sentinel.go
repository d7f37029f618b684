package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is the name under which a SentinelSet's sentinels know their
// master.
const MasterName = "mymaster"

// quorum is how many of the three sentinels must agree.
const quorum = 2

// SentinelSet is one master, two replicas and three sentinels. Master and
// Replicas name the roles at the start: a failover moves them.
type SentinelSet struct {
	Master    *Server
	Replicas  []*Server
	Sentinels []*Server

	clients []*redis.SentinelClient
}

// StartSentinel starts the set and waits until every sentinel knows both
// replicas and both other sentinels. The quorum is 2, down-after 1 s and
// failover-timeout 5 s. args go to the master and to the replicas; a
// --requirepass is given to the replicas as --masterauth and to the sentinels
// as auth-pass.
func StartSentinel(t testing.TB, args ...string) *SentinelSet {
	t.Helper()
	if pw := argValue(args, "--requirepass"); pw != "" {
		args = append(args, "--masterauth", pw)
	}
	set := &SentinelSet{Master: Start(t, args...)}
	for range 2 {
		of := []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(set.Master.Port)}
		set.Replicas = append(set.Replicas, Start(t, slices.Concat(of, args)...))
	}
	// A sentinel asks for INFO every ten seconds: what it cannot see at its
	// first look it sees late. So the replicas must be in sync before.
	for _, replica := range set.Replicas {
		client := replica.Client(t)
		Eventually(t, "replica "+replica.Addr, quorumTimeout, func() error {
			return infoHas(client, "replication", "master_link_status:up")
		})
	}
	for range 3 {
		s := startSentinel(t, set.Master)
		set.Sentinels = append(set.Sentinels, s)
		set.clients = append(set.clients, s.sentinelClient(t))
	}
	for i, client := range set.clients {
		Eventually(t, "sentinel "+set.Sentinels[i].Addr, quorumTimeout, func() error { return knowsAll(client) })
	}
	return set
}

func startSentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	s := newServer(t, nil)
	conf := s.writeSentinelConf(t, master, quorum)
	s.command = func(s *Server) []string { return []string{conf, "--sentinel", "--port", strconv.Itoa(s.Port)} }
	s.start()
	return s
}

// writeSentinelConf writes a sentinel's configuration and returns its path. The
// sentinel rewrites the file, and finds what it wrote after a Restart.
func (s *Server) writeSentinelConf(t testing.TB, master *Server, quorum int) string {
	t.Helper()
	path := filepath.Join(s.dir, "sentinel.conf")
	lines := []string{
		"bind 127.0.0.1", "dir " + s.dir,
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", MasterName, master.Port, quorum),
		"sentinel down-after-milliseconds " + MasterName + " 1000",
		"sentinel failover-timeout " + MasterName + " 5000",
		"sentinel parallel-syncs " + MasterName + " 1",
	}
	if master.Password != "" {
		lines = append(lines, "sentinel auth-pass "+MasterName+" "+master.Password)
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return path
}

func (s *Server) sentinelClient(t testing.TB) *redis.SentinelClient {
	t.Helper()
	client := redis.NewSentinelClient(s.options())
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// infoHas asks for a section of INFO and wants line in it.
func infoHas(client *redis.Client, section, line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := client.Info(ctx, section).Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, line+"\r\n") {
		return fmt.Errorf("INFO %s lacks %s", section, line)
	}
	return nil
}

// knowsAll wants a sentinel that sees the master up, with two replicas in sync
// and two other sentinels.
func knowsAll(client *redis.SentinelClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	master, err := client.Master(ctx, MasterName).Result()
	if err != nil {
		return err
	}
	if master["flags"] != "master" || master["num-slaves"] != "2" || master["num-other-sentinels"] != "2" {
		return fmt.Errorf("flags %q, %s replicas, %s other sentinels",
			master["flags"], master["num-slaves"], master["num-other-sentinels"])
	}
	replicas, err := client.Replicas(ctx, MasterName).Result()
	if err != nil {
		return err
	}
	for _, r := range replicas {
		if r["flags"] != "slave" || r["master-link-status"] != "ok" {
			return fmt.Errorf("replica %s: flags %q, link %q", r["name"], r["flags"], r["master-link-status"])
		}
	}
	return nil
}

// URL is redis://host:port,host:port,host:port/mymaster, with the password of
// the data nodes if they have one.
func (set *SentinelSet) URL() string {
	addrs := make([]string, len(set.Sentinels))
	for i, s := range set.Sentinels {
		addrs[i] = s.Addr
	}
	return "redis://" + set.Master.userinfo() + strings.Join(addrs, ",") + "/" + MasterName
}

// Servers are the data nodes: the first master, then the replicas.
func (set *SentinelSet) Servers() []*Server {
	return append([]*Server{set.Master}, set.Replicas...)
}

// CurrentMaster waits until a quorum of the sentinels name the same master,
// and returns its address.
func (set *SentinelSet) CurrentMaster(t testing.TB) string {
	t.Helper()
	var addr string
	Eventually(t, "the sentinels to agree on a master", quorumTimeout, func() (err error) {
		addr, err = set.agreedMaster()
		return err
	})
	return addr
}

// WaitFailover waits until the sentinels agree on a master other than old and
// that node calls itself a master, and returns it.
func (set *SentinelSet) WaitFailover(t testing.TB, old string) *Server {
	t.Helper()
	clients := map[string]*redis.Client{}
	for _, s := range set.Servers() {
		clients[s.Addr] = s.Client(t)
	}
	var addr string
	Eventually(t, "a failover from "+old, quorumTimeout, func() (err error) {
		if addr, err = set.agreedMaster(); err != nil {
			return err
		}
		if addr == old || clients[addr] == nil {
			return fmt.Errorf("the master is %s", addr)
		}
		return infoHas(clients[addr], "replication", "role:master")
	})
	for _, s := range set.Servers() {
		if s.Addr == addr {
			return s
		}
	}
	panic("unreachable: " + addr + " is one of Servers")
}

func (set *SentinelSet) agreedMaster() (string, error) {
	votes, errs := map[string]int{}, []error(nil)
	for _, client := range set.clients {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		got, err := client.GetMasterAddrByName(ctx, MasterName).Result()
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		addr := net.JoinHostPort(got[0], got[1])
		if votes[addr]++; votes[addr] >= quorum {
			return addr, nil
		}
	}
	return "", fmt.Errorf("no quorum: votes %v: %w", votes, errors.Join(errs...))
}
