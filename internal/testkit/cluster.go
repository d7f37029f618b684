package testkit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterSlots is the number of hash slots of every Redis Cluster.
const clusterSlots = 16384

// ClusterSet is a Redis Cluster of three masters without replicas.
type ClusterSet struct {
	Nodes []*Server // in the order of the slots they hold
}

// StartCluster starts three nodes, gives them a third of the 16384 slots each,
// joins them and waits until every one calls the cluster ok. args go to every
// node.
func StartCluster(t testing.TB, args ...string) *ClusterSet {
	t.Helper()
	const nodes = 3
	set := &ClusterSet{}
	bus := make([]int, nodes)
	clients := make([]*redis.Client, nodes)
	for i := range nodes {
		set.Nodes = append(set.Nodes, startNode(t, &bus[i], args))
		clients[i] = set.Nodes[i].Client(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for i, client := range clients {
		first, last := i*clusterSlots/nodes, (i+1)*clusterSlots/nodes-1
		// Epochs of our own choice spare the nodes settling a collision.
		if err := client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			t.Fatalf("testkit: %v", err)
		}
		if err := client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			t.Fatalf("testkit: give node %d its slots: %v", i, err)
		}
	}
	for i, node := range set.Nodes[1:] {
		if err := clients[0].Do(ctx, "CLUSTER", "MEET", "127.0.0.1", node.Port, bus[i+1]).Err(); err != nil {
			t.Fatalf("testkit: join node %s: %v", node.Addr, err)
		}
	}
	for i, client := range clients {
		Eventually(t, "cluster node "+set.Nodes[i].Addr, quorumTimeout, func() error { return clusterOK(client, nodes) })
	}
	return set
}

// startNode starts one node, and stores the port of its cluster bus in bus.
func startNode(t testing.TB, bus *int, args []string) *Server {
	t.Helper()
	s := newServer(t, args)
	port := 0
	s.command = func(s *Server) []string {
		// A new bus port with every new port, the same again after a Restart.
		if port != s.Port {
			var err error
			if *bus, err = freePort(); err != nil {
				t.Fatalf("testkit: %v", err)
			}
			port = s.Port
		}
		own := []string{
			"--port", strconv.Itoa(s.Port), "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(*bus),
			"--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000",
		}
		return slices.Concat(own, s.baseArgs(args))
	}
	s.start()
	return s
}

// clusterOK wants a node that knows nodes others, itself included, and all
// slots assigned and served.
func clusterOK(client *redis.Client, nodes int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	for _, want := range []string{
		"cluster_state:ok", fmt.Sprintf("cluster_slots_ok:%d", clusterSlots),
		fmt.Sprintf("cluster_known_nodes:%d", nodes), fmt.Sprintf("cluster_size:%d", nodes),
	} {
		if !strings.Contains(info, want+"\r\n") {
			return fmt.Errorf("no %s in CLUSTER INFO:\n%s", want, info)
		}
	}
	return nil
}

// Addrs are the addresses of the nodes.
func (set *ClusterSet) Addrs() []string {
	addrs := make([]string, len(set.Nodes))
	for i, s := range set.Nodes {
		addrs[i] = s.Addr
	}
	return addrs
}

// URL is redis+cluster://host:port,host:port,host:port, with the password of
// the nodes if they have one.
func (set *ClusterSet) URL() string {
	return "redis+cluster://" + set.Nodes[0].userinfo() + strings.Join(set.Addrs(), ",")
}

// Client returns a cluster client, closed with t.
func (set *ClusterSet) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: set.Addrs(), Password: set.Nodes[0].Password})
	t.Cleanup(func() { _ = client.Close() })
	return client
}
