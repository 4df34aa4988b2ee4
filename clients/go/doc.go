// Package locks has the locks of redis-lock, the module for Redis and Valkey, on go-redis.
//
//	client := locks.New(redis.NewClient(&redis.Options{Addr: "localhost:6379"}))
//	defer client.Close()
//	held, err := client.Acquire(ctx, "order:44", locks.Lease(30*time.Second), locks.Wait(20*time.Second))
//
// A held lock is renewed until it is released. [Lock.Context] is cancelled when it is lost before that.
//
// The steps that every client of redis-lock takes, and why, are in docs/clients.md of the project.
package locks
