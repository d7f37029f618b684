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
	"time"

	"github.com/redis/go-redis/v9"
)

// masterName is the name under which the sentinels know their master.
const masterName = "mymaster"

// quorum is how many of three sentinels must agree.
const quorum = 2

// SentinelSet is one master, two replicas and three sentinels. Master and Replicas are named by their role at the
// start; a failover changes the roles.
type SentinelSet struct {
	Master    *Server
	Replicas  []*Server
	Sentinels []*Server

	clients []*redis.SentinelClient
}

// StartSentinel starts a set and waits until every sentinel knows both replicas and both other sentinels. The quorum
// is 2, down-after 1 s and failover-timeout 5 s. args go to the master and to the replicas; the replicas get a
// --requirepass as --masterauth too, the sentinels as auth-pass.
func StartSentinel(t T, args ...string) *SentinelSet {
	t.Helper()
	if pw := argValue(args, "--requirepass"); pw != "" {
		args = append(args, "--masterauth", pw)
	}
	set := &SentinelSet{Master: Start(t, args...)}
	replicaOf := []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(set.Master.Port)}
	for range 2 {
		set.Replicas = append(set.Replicas, Start(t, slices.Concat(replicaOf, args)...))
	}
	// A sentinel asks for INFO every ten seconds, so it learns late what its first INFO does not show: the replicas
	// must be in sync before it starts.
	for _, replica := range set.Replicas {
		client := replica.Client(t)
		Eventually(t, "replica "+replica.Addr, quorumTimeout, func() error {
			return infoHas(client, "replication", "master_link_status:up")
		})
	}
	for range 3 {
		s := newServer(t)
		s.startSentinel(set.Master, quorum)
		client := redis.NewSentinelClient(s.options())
		t.Cleanup(func() { _ = client.Close() })
		set.Sentinels, set.clients = append(set.Sentinels, s), append(set.clients, client)
	}
	for i, client := range set.clients {
		Eventually(t, "sentinel "+set.Sentinels[i].Addr, quorumTimeout, func() error { return knowsAll(client) })
	}
	return set
}

// startSentinel starts s as a sentinel of master, with args after the name of its configuration file. The sentinel
// rewrites that file, and reads it again after a Restart.
func (s *Server) startSentinel(master *Server, quorum int, args ...string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "sentinel.conf")
	lines := []string{
		"bind 127.0.0.1", "dir " + s.dir,
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", masterName, master.Port, quorum),
		"sentinel down-after-milliseconds " + masterName + " 1000",
		"sentinel failover-timeout " + masterName + " 5000",
		"sentinel parallel-syncs " + masterName + " 1",
	}
	if master.Password != "" {
		lines = append(lines, "sentinel auth-pass "+masterName+" "+master.Password)
	}
	must(s.t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	s.args = append([]string{path, "--sentinel"}, args...)
	s.startOnFreePort()
}

// infoHas returns nil if a section of INFO has line.
func infoHas(client *redis.Client, section, line string) error {
	info, err := infoOf(client, section)
	if err == nil && !strings.Contains(info, line+"\r\n") {
		err = fmt.Errorf("INFO %s lacks %s", section, line)
	}
	return err
}

// knowsAll returns nil if a sentinel sees the master up, two replicas in sync and two other sentinels.
func knowsAll(client *redis.SentinelClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	master, err := client.Master(ctx, masterName).Result()
	if err != nil {
		return err
	}
	if master["flags"] != "master" || master["num-slaves"] != "2" || master["num-other-sentinels"] != "2" {
		return fmt.Errorf("flags %q, %s replicas, %s other sentinels",
			master["flags"], master["num-slaves"], master["num-other-sentinels"])
	}
	replicas, err := client.Replicas(ctx, masterName).Result()
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

// URL returns redis://host:port,host:port,host:port/mymaster, with the password of the data nodes.
func (set *SentinelSet) URL() string {
	addrs := make([]string, len(set.Sentinels))
	for i, s := range set.Sentinels {
		addrs[i] = s.Addr
	}
	return "redis://" + set.Master.userinfo() + strings.Join(addrs, ",") + "/" + masterName
}

// WaitFailover waits until a quorum of the sentinels name a master other than the one at old, and until that server
// calls itself a master. It returns that server.
func (set *SentinelSet) WaitFailover(t T, old string) (master *Server) {
	t.Helper()
	clients := map[*Server]*redis.Client{}
	for _, s := range append([]*Server{set.Master}, set.Replicas...) {
		clients[s] = s.Client(t)
	}
	Eventually(t, "a failover from "+old, quorumTimeout, func() error {
		addr, err := set.agreedMaster()
		if err != nil {
			return err
		}
		for s, client := range clients {
			if s.Addr == addr && addr != old {
				master = s
				return infoHas(client, "replication", "role:master")
			}
		}
		return fmt.Errorf("the master is %s", addr)
	})
	return master
}

// agreedMaster returns the address of the master that a quorum of the sentinels name.
func (set *SentinelSet) agreedMaster() (string, error) {
	votes, errs := map[string]int{}, []error(nil)
	for _, client := range set.clients {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		got, err := client.GetMasterAddrByName(ctx, masterName).Result()
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
