// worker LIBRARY PORT SCENARIO [NUMBER [NUMBER]]: does the work of one scenario with one library, and says what it saw as JSON.
// benches/peers/README.md has the scenarios. Libraries are used as they come, but for the lease, which each is told.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"redis-lock.invalid/locks"
)

const hold = time.Millisecond

// acquire takes a lock and returns what gives it back.
type acquire func(name string, lease time.Duration) func()

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func redisLock(port string, _ int) acquire {
	client := locks.New(redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port}))
	return func(name string, lease time.Duration) func() {
		held, err := client.Acquire(context.Background(), name, locks.Lease(lease))
		must(err)
		return func() { must(held.Release()) }
	}
}

func redSync(port string, clients int) acquire {
	pool := goredis.NewPool(redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, PoolSize: clients + 8}))
	rs := redsync.New(pool)
	return func(name string, lease time.Duration) func() {
		// As it comes it gives up after 32 tries.
		mutex := rs.NewMutex(name, redsync.WithExpiry(lease), redsync.WithTries(1_000_000))
		must(mutex.Lock())
		return func() {
			if _, err := mutex.Unlock(); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// Each client has a session of its own, as each program has.
func etcd(port string, clients int) acquire {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:" + port}, DialTimeout: 5 * time.Second})
	must(err)
	sessions := make(chan *concurrency.Session, clients+8)
	return func(name string, lease time.Duration) func() {
		var session *concurrency.Session
		select {
		case session = <-sessions:
		default:
			session, err = concurrency.NewSession(client, concurrency.WithTTL(max(1, int(lease.Seconds()))))
			must(err)
		}
		mutex := concurrency.NewMutex(session, "/"+name)
		must(mutex.Lock(context.Background()))
		return func() {
			must(mutex.Unlock(context.Background()))
			sessions <- session
		}
	}
}

func postgres(port string, clients int) acquire {
	url := fmt.Sprintf("postgres://postgres@127.0.0.1:%s/postgres?sslmode=disable&pool_max_conns=%d", port, clients+8)
	pool, err := pgxpool.New(context.Background(), url)
	must(err)
	return func(name string, _ time.Duration) func() {
		number := fnv.New32a()
		number.Write([]byte(name))
		id := int64(number.Sum32())
		conn, err := pool.Acquire(context.Background())
		must(err)
		_, err = conn.Exec(context.Background(), "SELECT pg_advisory_lock($1)", id)
		must(err)
		return func() {
			_, err := conn.Exec(context.Background(), "SELECT pg_advisory_unlock($1)", id)
			must(err)
			conn.Release()
		}
	}
}

var libraries = map[string]func(string, int) acquire{
	"redis-lock": redisLock, "redsync": redSync, "etcd": etcd, "postgres": postgres,
}

const lease = 30 * time.Second

type seen struct {
	Us     []float64 `json:"us,omitempty"`
	Grants []int     `json:"grants,omitempty"`
	Ms     float64   `json:"ms,omitempty"`
}

func us(began time.Time) float64 { return float64(time.Since(began).Nanoseconds()) / 1000 }

func pairs(take acquire, count int) (s seen) {
	for number := range count + 100 {
		began := time.Now()
		take("pairs", lease)()
		if number >= 100 {
			s.Us = append(s.Us, us(began))
		}
	}
	return s
}

func contend(take acquire, clients, ms int) seen {
	s := seen{Grants: make([]int, clients)}
	var all sync.Mutex
	var done sync.WaitGroup
	end := time.Now().Add(time.Duration(ms) * time.Millisecond)
	for number := range clients {
		done.Go(func() {
			var waits []float64
			for time.Now().Before(end) {
				began := time.Now()
				give := take("contended", lease)
				waits = append(waits, us(began))
				if time.Now().Before(end) {
					s.Grants[number]++
				}
				time.Sleep(hold)
				give()
			}
			all.Lock()
			s.Us = append(s.Us, waits...)
			all.Unlock()
		})
	}
	done.Wait()
	return s
}

func handOver(take acquire, count int) (s seen) {
	for range count {
		give := take("handed", lease)
		returned := make(chan time.Time)
		go func() {
			mine := take("handed", lease)
			returned <- time.Now()
			mine()
			returned <- time.Now()
		}()
		time.Sleep(250 * time.Millisecond)
		began := time.Now()
		give()
		s.Us = append(s.Us, float64((<-returned).Sub(began).Nanoseconds())/1000)
		<-returned
	}
	return s
}

func crowd(take acquire, waiters int) seen {
	give := take("crowded", 10*time.Minute)
	var done sync.WaitGroup
	for range waiters {
		done.Go(func() { take("crowded", 10*time.Minute)() })
	}
	time.Sleep(3 * time.Second)
	began := time.Now()
	give()
	done.Wait()
	return seen{Ms: us(began) / 1000}
}

func main() {
	var numbers []int
	for _, word := range os.Args[4:] {
		number, err := strconv.Atoi(word)
		must(err)
		numbers = append(numbers, number)
	}
	clients := 1
	if len(numbers) > 0 {
		clients = numbers[0]
	}
	take := libraries[os.Args[1]](os.Args[2], clients)
	var s seen
	switch os.Args[3] {
	case "pairs":
		s = pairs(take, numbers[0])
	case "contend":
		s = contend(take, numbers[0], numbers[1])
	case "hand-over":
		s = handOver(take, numbers[0])
	case "crowd":
		s = crowd(take, numbers[0])
	case "hold":
		length := lease
		if numbers[0] > 0 {
			length = time.Duration(numbers[0]) * time.Millisecond
		}
		take("dying", length)
		fmt.Println("held")
		time.Sleep(10 * time.Minute)
	case "wait":
		fmt.Println("waiting")
		give := take("dying", lease)
		fmt.Println("granted")
		give()
	}
	must(json.NewEncoder(os.Stdout).Encode(s))
}
