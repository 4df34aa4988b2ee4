package locks_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"redis-lock.invalid/locks"
)

// twoNodes gives a cluster of two, of which the first has all slots.
func twoNodes(t *testing.T) (client *locks.Client, nodes []*redis.Client, ids []string) {
	var addresses []string
	for range 2 {
		address := start(t, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
		node := redis.NewClient(&redis.Options{Addr: address})
		t.Cleanup(func() { node.Close() })
		addresses, nodes = append(addresses, address), append(nodes, node)
		ids = append(ids, node.Do(t.Context(), "CLUSTER", "MYID").Val().(string))
	}
	host, port, _ := net.SplitHostPort(addresses[1])
	for _, each := range [][]any{{"CLUSTER", "ADDSLOTSRANGE", 0, 16383}, {"CLUSTER", "MEET", host, port}} {
		if err := nodes[0].Do(t.Context(), each...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ok := func(node *redis.Client) bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok") &&
			strings.Contains(node.ClusterNodes(t.Context()).Val(), "0-16383")
	}
	for end := time.Now().Add(30 * time.Second); !ok(nodes[0]) || !ok(nodes[1]); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(nodes[1].ClusterNodes(t.Context()).Val())
		}
	}
	all := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addresses})
	client = locks.New(all)
	t.Cleanup(func() { client.Close(); all.Close() })
	return client, nodes, ids
}

func TestASessionIsHeldWhereItsSlotMovesTo(t *testing.T) {
	client, nodes, ids := twoNodes(t)
	slot := nodes[0].ClusterKeySlot(t.Context(), "moving").Val()
	for at, state := range []string{"MIGRATING", "IMPORTING"} {
		if err := nodes[at].Do(t.Context(), "CLUSTER", "SETSLOT", slot, state, ids[1-at]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	held, err := client.Acquire(t.Context(), "moving", locks.Session(), locks.Wait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := held.Extend(0); !is || err != nil {
		t.Fatal(is, err)
	}
	asked := nodes[1].Pipeline()
	asked.Do(t.Context(), "ASKING")
	info := asked.Do(t.Context(), "LOCK.INFO", "moving")
	if _, err := asked.Exec(t.Context()); err != nil || !strings.Contains(fmt.Sprint(info.Val()), "session:") {
		t.Fatal(err, info)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestANodeThatIsNotThereSaysNothingOfALockThatMovesToIt(t *testing.T) {
	client, nodes, ids := twoNodes(t)
	slot := nodes[0].ClusterKeySlot(t.Context(), "moving").Val()
	if err := nodes[0].Do(t.Context(), "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1]).Err(); err != nil {
		t.Fatal(err)
	}
	nodes[1].Do(t.Context(), "SHUTDOWN", "NOSAVE")
	if _, err := client.Acquire(t.Context(), "moving", locks.Wait(0)); err == nil || errors.Is(err, locks.ErrNotAcquired) {
		t.Error(err)
	}
	nodes[0].Do(t.Context(), "CLUSTER", "SETSLOT", slot, "STABLE")
}
