package locks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"redis-lock.invalid/locks"
)

// start gives the address of a server with the module, which ends with the test.
func start(t *testing.T) string {
	t.Helper()
	module, program := os.Getenv("REDIS_LOCK_MODULE"), os.Getenv("REDIS_SERVER")
	if module == "" {
		t.Fatal("REDIS_LOCK_MODULE names no module")
	}
	if program == "" {
		program = "redis-server"
	}
	// Another server may take the port first. Then ours ends, and the next try has another one.
	for range 5 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		_, port, _ := net.SplitHostPort(address)
		server := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--loadmodule", module)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { server.Wait(); close(ended) }()
		if answers(t, address, server.Process.Pid, ended) {
			t.Cleanup(func() { server.Process.Kill(); <-ended })
			return address
		}
		server.Process.Kill()
	}
	t.Fatal("the server does not start")
	return ""
}

func answers(t *testing.T, address string, pid int, ended chan struct{}) bool {
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			return false
		default:
			info, _ := client.Info(t.Context(), "server").Result()
			if strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", pid)) {
				return true
			}
		}
	}
	return false
}

func clientOf(t *testing.T, address string) (*locks.Client, *redis.Client) {
	direct := redis.NewClient(&redis.Options{Addr: address})
	client := locks.New(direct)
	t.Cleanup(func() { client.Close(); direct.Close() })
	return client, direct
}

func TestTheContextOfAHeldLockIsCancelledWithItsCause(t *testing.T) {
	client, direct := clientOf(t, start(t))
	held, err := client.Acquire(t.Context(), "lost", locks.Lease(900*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Context().Err(); err != nil {
		t.Fatal(err)
	}
	direct.Do(t.Context(), "LOCK.BREAK", "lost")
	select {
	case <-held.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it is not cancelled")
	}
	if cause := context.Cause(held.Context()); !errors.Is(cause, locks.ErrLost) {
		t.Fatal(cause)
	}
	if err := held.Release(); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
}

func TestAReleaseEndsTheContextToo(t *testing.T) {
	client, _ := clientOf(t, start(t))
	held, err := client.Acquire(t.Context(), "released")
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if cause := context.Cause(held.Context()); cause == nil || errors.Is(cause, locks.ErrLost) {
		t.Fatal(cause)
	}
	select {
	case <-held.Lost():
		t.Fatal("it was not lost")
	default:
	}
}

func TestTheCauseOfAContextThatEndsIsReturned(t *testing.T) {
	client, direct := clientOf(t, start(t))
	direct.Do(t.Context(), "LOCK.ACQUIRE", "taken", "PX", 60000, "TOKEN", "other")
	because := errors.New("the user has gone home")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(because) })
	if _, err := client.Acquire(ctx, "taken"); !errors.Is(err, because) {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer end()
	if _, err := client.Acquire(ctx, "taken"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := client.Acquire(t.Context(), "taken", locks.Wait(0)); !errors.Is(err, locks.ErrNotAcquired) {
		t.Fatal(err)
	}
}

func TestInnerLevelsMayEndInAnyOrderAndOtherNamesBetween(t *testing.T) {
	client, _ := clientOf(t, start(t))
	var levels []int
	ctx := t.Context()
	var all []*locks.Lock
	for _, name := range []string{"a", "b", "a", "a"} {
		held, err := client.Acquire(ctx, name, locks.Wait(0))
		if err != nil {
			t.Fatal(name, err)
		}
		all, levels, ctx = append(all, held), append(levels, held.Level()), held.Context()
	}
	if fmt.Sprint(levels) != "[1 1 2 3]" {
		t.Fatal(levels)
	}
	for _, at := range []int{2, 1, 3, 0} {
		if err := all[at].Release(); err != nil {
			t.Fatal(at, err)
		}
	}
}

func TestDoReleasesWhateverTheWorkComesTo(t *testing.T) {
	client, direct := clientOf(t, start(t))
	failure := errors.New("of the work")
	work := func(context.Context, *locks.Lock) error { return failure }
	if err := client.Do(t.Context(), "do", work); !errors.Is(err, failure) || errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	if info := direct.Do(t.Context(), "LOCK.INFO", "do").Err(); !errors.Is(info, redis.Nil) {
		t.Fatal(info)
	}
}

func TestLockersExcludeEachOther(t *testing.T) {
	client, _ := clientOf(t, start(t))
	inside, most := 0, 0
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			locker := client.Locker(context.Background(), "locker")
			locker.Lock()
			inside++
			most = max(most, inside)
			time.Sleep(time.Millisecond)
			inside--
			locker.Unlock()
		}()
	}
	all.Wait()
	if most != 1 {
		t.Fatal(most)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	address := start(t)
	round := func() {
		direct := redis.NewClient(&redis.Options{Addr: address})
		client := locks.New(direct)
		for number := range 100 {
			held, err := client.Acquire(t.Context(), fmt.Sprint("left ", number), locks.Lease(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			held.Release()
		}
		client.Close()
		direct.Close()
	}
	round()
	before := runtime.NumGoroutine()
	round()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// The program of README.md, as it is there but for the port, in a module that takes this one from its folder.
func TestTheProgramOfReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)```go\n(func main.*?)```").FindStringSubmatch(string(text))[1]
	if body := strings.Count(program, "\n") - 2; body > 10 {
		t.Fatalf("%d lines", body)
	}
	address, folder := start(t), t.TempDir()
	program = strings.Replace(program, "127.0.0.1:6379", address, 1)
	imports := "package main\n\nimport (\n\"context\"\n\"fmt\"\n\"log\"\n\"time\"\n\n\"github.com/redis/go-redis/v9\"\n\"redis-lock.invalid/locks\"\n)\n\n"
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(imports+program), 0o600); err != nil {
		t.Fatal(err)
	}
	here, _ := os.Getwd()
	for _, words := range [][]string{
		{"mod", "init", "program"},
		{"mod", "edit", "-require", "redis-lock.invalid/locks@v0.1.0", "-replace", "redis-lock.invalid/locks=" + here},
		{"mod", "tidy"},
	} {
		command := exec.Command("go", words...)
		command.Dir = folder
		if said, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", words, said)
		}
	}
	command := exec.Command("go", "run", ".")
	command.Dir = folder
	said, err := command.CombinedOutput()
	if err != nil || !regexp.MustCompile(`^working with fence \d{16} for 30s or longer\n$`).Match(said) {
		t.Fatalf("%v: %s", err, said)
	}
}

func TestCloseEndsSessions(t *testing.T) {
	client, direct := clientOf(t, start(t))
	held, err := client.Acquire(t.Context(), "session", locks.Session(), locks.Lease(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	for end := time.Now().Add(10 * time.Second); direct.Do(t.Context(), "LOCK.INFO", "session").Err() != redis.Nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is still held")
		}
	}
	if held.Held() {
		t.Fatal("it says that it is held")
	}
}

// More contend for a lock than may be blocked. Whose turn comes must not have to ask first, since the lock is idle until then.
func TestTheLockIsNotIdleWhereManyContend(t *testing.T) {
	client, _ := clientOf(t, start(t))
	const contenders, each = 2 * locks.Blocked, 5
	var done sync.WaitGroup
	began := time.Now()
	for range contenders {
		done.Add(1)
		go func() {
			defer done.Done()
			for range each {
				held, err := client.Acquire(t.Context(), "contended")
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond)
				if err := held.Release(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	done.Wait()
	// It takes less than a second. Where it was idle, each turn took a second or two, now and then.
	if took := time.Since(began); took > 15*time.Second {
		t.Fatalf("it took %v", took)
	}
}
