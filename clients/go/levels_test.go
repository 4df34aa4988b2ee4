package locks_test

import (
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
