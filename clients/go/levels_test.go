package locks_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-lock.invalid/locks"
)

func level(number int) string { return fmt.Sprintf("level:%d ", number) }

func TestGoroutinesThatShareAHoldAcquireAndReleaseLevelsBesideEachOther(t *testing.T) {
	client, direct := clientOf(t, start(t))
	outer, err := client.Acquire(t.Context(), "shared")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 50 {
				held, err := client.Acquire(outer.Context(), "shared", locks.Wait(0))
				if err == nil {
					_, err = held.Extend(0)
				}
				if err == nil {
					err = held.Release()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	all.Wait()
	if info := fmt.Sprint(direct.Do(t.Context(), "LOCK.INFO", "shared").Val()); !strings.Contains(info, level(1)) {
		t.Fatal(info)
	}
	if err := outer.Release(); err != nil {
		t.Fatal(err)
	}
}

// The cause of its context is a loss as well, but of another lock.
func TestALevelThatIsAskedForWithTheContextOfALostLockLosesNoOther(t *testing.T) {
	client, direct := clientOf(t, start(t))
	kept, err := client.Acquire(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	lost, err := client.Acquire(kept.Context(), "lost")
	if err != nil {
		t.Fatal(err)
	}
	direct.Do(t.Context(), "LOCK.BREAK", "lost")
	if is, err := lost.Extend(0); is || err != nil {
		t.Fatal(is, err)
	}
	<-lost.Context().Done()
	if _, err := client.Acquire(lost.Context(), "kept"); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	if !kept.Held() {
		t.Fatal("it counts as lost")
	}
	if err := kept.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestALevelMakesNoLeaseShorter(t *testing.T) {
	client, direct := clientOf(t, start(t))
	outer, err := client.Acquire(t.Context(), "long", locks.Lease(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := client.Acquire(outer.Context(), "long", locks.Lease(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	handed, err := client.Acquire(t.Context(), "long", locks.Token(outer.Token()), locks.Level(3), locks.Lease(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range []*locks.Lock{inner, handed} {
		if is, err := each.Extend(time.Second); !is || err != nil {
			t.Fatal(is, err)
		}
		if left := each.Remaining(); left < 10*time.Second {
			t.Fatal(left)
		}
	}
	if left := direct.Do(t.Context(), "LOCK.CHECK", "long", outer.Token()).Val().([]any)[1].(int64); left < 30_000 {
		t.Fatal(left)
	}
	if err := errors.Join(handed.Release(), inner.Release()); err != nil {
		t.Fatal(err)
	}
	// What was released is not there again.
	if is, err := inner.Extend(time.Second); is || err != nil {
		t.Fatal(is, err)
	}
	if info := fmt.Sprint(direct.Do(t.Context(), "LOCK.INFO", "long").Val()); !strings.Contains(info, level(1)) {
		t.Fatal(info)
	}
	if is, err := outer.Extend(-time.Second); !is || !errors.Is(err, locks.ErrInvalid) {
		t.Fatal(is, err)
	}
	if err := outer.Release(); err != nil {
		t.Fatal(err)
	}
}

func panics(what func()) (said any) {
	defer func() { said = recover() }()
	what()
	return nil
}

func TestAnUnlockGivesBackWhatItsOwnLockHasAcquired(t *testing.T) {
	client, direct := clientOf(t, start(t))
	locker := client.Locker(t.Context(), "locker", locks.Lease(4*time.Second))
	if panics(locker.Unlock) == nil {
		t.Fatal("it was not locked")
	}
	locker.Lock()
	second := make(chan struct{})
	go func() {
		locker.Lock()
		close(second)
	}()
	direct.Do(t.Context(), "LOCK.BREAK", "locker")
	select {
	case <-second:
		t.Fatal("the first still works")
	// It is told of the loss by then, at its first renewal.
	case <-time.After(2 * time.Second):
	}
	if said, _ := panics(locker.Unlock).(error); !errors.Is(said, locks.ErrLost) {
		t.Fatal(said)
	}
	<-second
	if direct.Exists(t.Context(), "locker").Val() != 1 {
		t.Fatal("the second does not hold it")
	}
	locker.Unlock()
	isFree(t, direct, "locker")
	if panics(locker.Unlock) == nil {
		t.Fatal("it was not locked any more")
	}
}

func TestALockerWaitsForTheOneBeforeNoLongerThanItMay(t *testing.T) {
	client, _ := clientOf(t, start(t))
	because := errors.New("the user has gone home")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	for _, each := range []struct {
		ctx  context.Context
		how  []locks.Option
		says error
	}{
		{t.Context(), []locks.Option{locks.Wait(0)}, locks.ErrNotAcquired},
		{t.Context(), []locks.Option{locks.Wait(200 * time.Millisecond)}, locks.ErrNotAcquired},
		{ctx, nil, because},
	} {
		locker := client.Locker(each.ctx, "locker", each.how...)
		locker.Lock()
		if each.ctx == ctx {
			time.AfterFunc(100*time.Millisecond, func() { cancel(because) })
		}
		if said, _ := panics(locker.Lock).(error); !errors.Is(said, each.says) {
			t.Fatal(said)
		}
		locker.Unlock()
	}
	for _, how := range []locks.Option{locks.Shared(), locks.Limit(2)} {
		if said, _ := panics(client.Locker(t.Context(), "many", how).Lock).(error); !errors.Is(said, locks.ErrInvalid) {
			t.Fatal(said)
		}
	}
}
