package testkit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterSlots is the number of hash slots of every Redis Cluster.
const clusterSlots = 16384

// ClusterSet is a Redis Cluster of three masters without replicas.
type ClusterSet struct {
	Nodes []*Server // in the order of the slots they hold
}

// StartCluster starts three nodes, gives a third of the slots to each, joins them and waits until every one calls the
// Cluster ok. args go to every node.
func StartCluster(t T, args ...string) *ClusterSet {
	t.Helper()
	const nodes = 3
	args = append([]string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000",
	}, args...)
	set := &ClusterSet{}
	clients := make([]*redis.Client, nodes)
	for i := range nodes {
		s := newServer(t)
		s.cluster = true
		s.start(args...)
		set.Nodes, clients[i] = append(set.Nodes, s), s.Client(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for i, client := range clients {
		// Different configuration epochs spare the nodes the settling of a collision.
		must(t, client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		must(t, client.ClusterAddSlotsRange(ctx, i*clusterSlots/nodes, (i+1)*clusterSlots/nodes-1).Err())
	}
	for _, node := range set.Nodes[1:] {
		must(t, clients[0].Do(ctx, "CLUSTER", "MEET", "127.0.0.1", node.Port, node.bus).Err())
	}
	for i, client := range clients {
		Eventually(t, "cluster node "+set.Nodes[i].Addr, quorumTimeout, func() error { return clusterOK(client, nodes) })
	}
	return set
}

// clusterOK returns nil if a node knows so many nodes, itself included, and all slots are assigned and served.
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

func (set *ClusterSet) addrs() []string {
	addrs := make([]string, len(set.Nodes))
	for i, s := range set.Nodes {
		addrs[i] = s.Addr
	}
	return addrs
}

// URL returns redis+cluster://host:port,host:port,host:port, with the password of the nodes.
func (set *ClusterSet) URL() string {
	return "redis+cluster://" + set.Nodes[0].userinfo() + strings.Join(set.addrs(), ",")
}

// client returns a client of the Cluster. t closes it.
func (set *ClusterSet) client(t T) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: set.addrs(), Password: set.Nodes[0].Password})
	t.Cleanup(func() { _ = client.Close() })
	return client
}
