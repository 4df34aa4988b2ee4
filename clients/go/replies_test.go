package locks_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"redis-lock.invalid/locks"
)

func TestSeveralLocksOfWhichOneIsLostBetweenGrantAndConfirmationAreWaitedFor(t *testing.T) {
	server := start(t)
	_, direct := clientOf(t, server)
	var once sync.Once
	between := before(t, server, func(what string) {
		if strings.Contains(what, "LOCK.MEXTEND") {
			once.Do(func() {
				direct.Do(t.Context(), "LOCK.BREAK", "b")
				direct.Do(t.Context(), "LOCK.ACQUIRE", "b", "PX", 60000, "TOKEN", "other")
				time.AfterFunc(500*time.Millisecond, func() { direct.Do(context.Background(), "LOCK.RELEASE", "b", "other") })
			})
		}
	})
	client, _ := clientOf(t, between.address)
	direct.Do(t.Context(), "LOCK.ACQUIRE", "a", "PX", 500, "TOKEN", "first")
	// It waits for so long that the lease has to be confirmed.
	held, err := client.AcquireAll(t.Context(), []string{"a", "b"}, locks.Lease(3*time.Second), locks.Wait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	// What extends it from now on is a renewal.
	once.Do(func() {})
	if !holds(t, direct, held, "a", "b") {
		t.Fatal("it is not held")
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestReplicasOfASessionHaveTimeToConfirm(t *testing.T) {
	client, direct := clientOf(t, start(t))
	began := time.Now()
	if _, err := client.Acquire(t.Context(), "session", locks.Session(), locks.Replicas(1)); !errors.Is(err, locks.ErrTooFewReplicas) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Fatalf("they had only %v", took)
	}
	isFree(t, direct, "session")
}

func TestASessionWhoseWaitIsCancelledNeedsNoReplyToEnd(t *testing.T) {
	server := start(t)
	_, direct := clientOf(t, server)
	between := before(t, server, nil)
	own := redis.NewClient(&redis.Options{Addr: between.address, ReadTimeout: 300 * time.Millisecond})
	defer own.Close()
	client := locks.New(own)
	direct.Do(t.Context(), "LOCK.ACQUIRE", "taken", "PX", 60000, "TOKEN", "other")
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := client.Acquire(ctx, "taken", locks.Session())
		waits <- err
	}()
	for between.connections() == 0 || !strings.Contains(direct.Info(t.Context(), "clients").Val(), "blocked_clients:1\r") {
		time.Sleep(10 * time.Millisecond)
	}
	between.mute(true)
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	between.mute(false)
	closed := make(chan struct{})
	go func() {
		client.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for a reply still")
	}
	direct.Do(t.Context(), "LOCK.RELEASE", "taken", "other")
	isFree(t, direct, "taken")
}

func TestAReleaseIsTriedForAsLongAsTheLeaseWasExtendedTo(t *testing.T) {
	between := before(t, start(t), nil)
	own := redis.NewClient(&redis.Options{Addr: between.address, ReadTimeout: 300 * time.Millisecond})
	defer own.Close()
	client := locks.New(own)
	held, err := client.Acquire(t.Context(), "extended", locks.Lease(4*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := held.Extend(time.Minute); !is || err != nil {
		t.Fatal(is, err)
	}
	between.mute(true)
	done := make(chan error, 1)
	go func() { done <- held.Release() }()
	select {
	case err := <-done:
		t.Fatal(err)
	case <-time.After(17 * time.Second):
	}
	between.mute(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// redlock gives a client of three servers, and the proxies before them.
func redlock(t *testing.T) (*locks.Client, []*proxy) {
	var some []*proxy
	var all []*redis.Client
	for range 3 {
		each := before(t, start(t), nil)
		// Longer than any lease here: who waits so long for one that is silent holds nothing.
		some, all = append(some, each), append(all, redis.NewClient(&redis.Options{Addr: each.address, ReadTimeout: 10 * time.Second}))
	}
	client := locks.NewRedlock(all...)
	t.Cleanup(func() {
		client.Close()
		for _, each := range all {
			each.Close()
		}
	})
	return client, some
}

// releaseOfSeveral lets pass that nobody knows what came of it: it is tried for less than a second, and a majority may stand
// still for longer.
func releaseOfSeveral(t *testing.T, held *locks.Lock) {
	t.Helper()
	if err := held.Release(); err != nil && !errors.Is(err, locks.ErrUnknown) {
		t.Fatal(err)
	}
}

func TestARedlockIsHeldWhileOneServerIsSilent(t *testing.T) {
	client, servers := redlock(t)
	servers[1].mute(true)
	held, err := client.Acquire(t.Context(), "silent", locks.Lease(4*time.Second), locks.Wait(8*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	_, first := clientOf(t, servers[0].address)
	_, third := clientOf(t, servers[2].address)
	isRenewed(t, held, first, third)
	releaseOfSeveral(t, held)
}

func TestARedlockAsksAgainWhereAMajorityWasSilent(t *testing.T) {
	client, servers := redlock(t)
	silent := func() {
		for _, each := range servers[1:] {
			each.mute(true)
			// Only what is asked first gets no reply, so that little of the patience of who does not wait is used up.
			time.AfterFunc(100*time.Millisecond, func() { each.mute(false) })
		}
	}
	silent()
	outer, err := client.Acquire(t.Context(), "silent", locks.Lease(time.Minute), locks.Wait(0))
	if err != nil {
		t.Fatal(err)
	}
	silent()
	inner, err := client.Acquire(outer.Context(), "silent", locks.Lease(time.Minute), locks.Wait(0))
	if err != nil || !outer.Held() {
		t.Fatal(err)
	}
	releaseOfSeveral(t, inner)
	releaseOfSeveral(t, outer)
}
