package locks_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"redis-lock.invalid/locks"
)

// Two accounts are locked in one step, so that nobody who locks them in another order waits for us while we wait for them. The
// total is written by who still holds them, and by nobody else.
func ExampleClient_AcquireAll() {
	ctx := context.Background()
	client := locks.New(redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"}))
	defer client.Close()
	held, err := client.AcquireAll(ctx, []string{"account:{eu}:7", "account:{eu}:8"}, locks.Wait(20*time.Second))
	if err != nil {
		return
	}
	defer held.Release()
	total, err := held.Guard(ctx, "INCRBY", "total:{eu}", 5).Int64()
	if errors.Is(err, locks.ErrLost) {
		fmt.Println("nothing has run")
		return
	}
	fmt.Println(total)
}

// Of a semaphore with five permits it takes three.
func ExampleWeight() {
	client := locks.New(redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"}))
	defer client.Close()
	_ = client.Do(context.Background(), "gpu", func(ctx context.Context, _ *locks.Lock) error {
		return nil
	}, locks.Limit(5), locks.Weight(3))
}
