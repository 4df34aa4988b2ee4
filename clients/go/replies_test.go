package locks_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

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
	if !holds(t, direct, held, "a", "b") {
		t.Fatal("it is not held")
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
}
