package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is what one server that holds breakers says of itself: a single server, a Sentinel's master, or one of a
// Cluster's masters. What an ACL or a proxy hides is zero.
type Server struct {
	Name       string        // its address, or the URL without its secrets
	UsedBytes  int64         // of memory
	MaxBytes   int64         // maxmemory; 0: no limit
	Policy     string        // maxmemory-policy; "": not known
	Clients    int64         // that are connected
	MaxClients int64         // that may be
	Role       string        // master or slave, as Redis calls it; "": not known
	Replicas   int           // that are connected
	Lag        time.Duration // of the replica that acknowledged last the longest ago
	BrokenLink bool          // it is a replica, and has lost its master
}

// Servers asks every server that holds breakers what it says of itself, in the order of their names; none for the
// embedded one. It is for authors of replicas.
func (c *Conn) Servers(ctx context.Context) (servers []Server, err error) {
	switch client := c.Client.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex
		err = client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			s, err := serverOf(ctx, node, node.Options().Addr)
			mu.Lock()
			defer mu.Unlock()
			servers = append(servers, s)
			return err
		})
	case *redis.Client:
		if c.Embedded {
			return nil, nil
		}
		var s Server
		s, err = serverOf(ctx, client, c.Display)
		servers = []Server{s}
	}
	if err != nil {
		return nil, fmt.Errorf("ask redis %s of itself: %w", c.Display, advise(err))
	}
	slices.SortFunc(servers, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	return servers, nil
}

// serverOf asks one server.
func serverOf(ctx context.Context, client *redis.Client, name string) (s Server, err error) {
	s.Name = name
	memory, err := infoFields(ctx, client, "memory")
	if err != nil {
		return s, err
	}
	replication, err := infoFields(ctx, client, "replication")
	if err != nil {
		return s, err
	}
	clients, err := infoFields(ctx, client, "clients")
	if err != nil {
		return s, err
	}
	number := func(text string) int64 {
		n, _ := strconv.ParseInt(text, 10, 64) // 0 if it is not known
		return n
	}
	s.UsedBytes, s.MaxBytes = number(memory["used_memory"]), number(memory["maxmemory"])
	s.Policy = memory["maxmemory_policy"]
	s.Clients, s.MaxClients = number(clients["connected_clients"]), number(clients["maxclients"])
	s.Role, s.Replicas = replication["role"], int(number(replication["connected_slaves"]))
	s.BrokenLink = replication["master_link_status"] == "down"
	for i := range s.Replicas { // slave0:ip=127.0.0.1,port=6380,state=online,offset=42,lag=1
		for field := range strings.SplitSeq(replication["slave"+strconv.Itoa(i)], ",") {
			if seconds, is := strings.CutPrefix(field, "lag="); is {
				s.Lag = max(s.Lag, time.Duration(number(seconds))*time.Second)
			}
		}
	}
	return s, nil
}
