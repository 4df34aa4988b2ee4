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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"redis-lock.invalid/locks"
)

// start gives the address of a server with the module, which ends with the test.
func start(t *testing.T, more ...string) string {
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
		words := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--loadmodule", module}, more...)
		server := exec.Command(program, words...)
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
	held, err := client.Acquire(t.Context(), "lost", locks.Lease(4*time.Second))
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
	if err != nil || !regexp.MustCompile(`^working with fence \d{16} for (30|2\d)s or longer\n$`).Match(said) {
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

func isFree(t *testing.T, direct *redis.Client, names ...string) {
	t.Helper()
	for _, name := range names {
		for end := time.Now().Add(10 * time.Second); direct.Do(t.Context(), "LOCK.INFO", name).Err() != redis.Nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%q is still held, or waited for", name)
			}
		}
	}
}

func holds(t *testing.T, direct *redis.Client, held *locks.Lock, names ...string) bool {
	t.Helper()
	for _, name := range names {
		if direct.Do(t.Context(), "LOCK.CHECK", name, held.Token()).Err() != nil {
			return false
		}
	}
	return true
}

// isRenewed waits until the lease has begun anew by our own clock, and at each of these servers that of each name.
func isRenewed(t *testing.T, held *locks.Lock, servers ...*redis.Client) {
	t.Helper()
	left := []func() time.Duration{held.Remaining}
	for _, server := range servers {
		for _, name := range held.Names() {
			left = append(left, func() time.Duration {
				said, err := server.Do(t.Context(), "LOCK.CHECK", name, held.Token()).Slice()
				if err != nil {
					t.Fatalf("%q was not renewed: %v", name, err)
				}
				return time.Duration(said[1].(int64)) * time.Millisecond
			})
		}
	}
	last, renewed := make([]time.Duration, len(left)), map[int]bool{}
	for at, each := range left {
		last[at] = each()
	}
	for end := time.Now().Add(20 * time.Second); len(renewed) < len(left); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) || !held.Held() {
			t.Fatalf("of %d leases only %v were renewed", len(left), renewed)
		}
		for at, each := range left {
			now := each()
			if now > last[at] {
				renewed[at] = true
			}
			last[at] = now
		}
	}
}

func TestSeveralLocksAreHeldTogether(t *testing.T) {
	client, direct := clientOf(t, start(t))
	held, err := client.AcquireAll(t.Context(), []string{"b", "a", "b"}, locks.Lease(4*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if names := held.Names(); held.Name() != "b" || !slices.Equal(names, []string{"b", "a"}) {
		t.Fatal(names)
	}
	for _, name := range held.Names() {
		if _, err := client.Acquire(t.Context(), name, locks.Wait(0)); !errors.Is(err, locks.ErrNotAcquired) {
			t.Fatal(name, err)
		}
	}
	isRenewed(t, held, direct)
	waits := make(chan error, 1)
	go func() {
		waits <- client.DoAll(context.Background(), []string{"a", "b", "c"}, func(_ context.Context, second *locks.Lock) error {
			if second.Fence() <= held.Fence() {
				return errors.New("the fence does not rise")
			}
			return nil
		})
	}()
	for end := time.Now().Add(10 * time.Second); direct.Do(t.Context(), "LOCK.INFO", "c").Err() == redis.Nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not wait")
		}
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
	isFree(t, direct, "a", "b", "c")
}

func TestSeveralLocksAreLostTogetherAndTheRestIsGivenBack(t *testing.T) {
	client, direct := clientOf(t, start(t))
	for _, spoil := range [][]any{{"LOCK.BREAK", "b"}, {"SET", "b", "x"}} {
		held, err := client.AcquireAll(t.Context(), []string{"a", "b"}, locks.Lease(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		direct.Do(t.Context(), spoil...)
		if is, err := held.Extend(0); is || err != nil {
			t.Fatal(spoil, is, err)
		}
		<-held.Lost()
		isFree(t, direct, "a")
		if err := held.Release(); !errors.Is(err, locks.ErrLost) {
			t.Fatal(spoil, err)
		}
		direct.Del(t.Context(), "b")

		// By a release the same.
		if held, err = client.AcquireAll(t.Context(), []string{"a", "b"}, locks.Lease(time.Minute)); err != nil {
			t.Fatal(err)
		}
		direct.Do(t.Context(), spoil...)
		if err := held.Release(); !errors.Is(err, locks.ErrLost) {
			t.Fatal(spoil, err)
		}
		<-held.Lost()
		isFree(t, direct, "a")
		direct.Del(t.Context(), "b")
	}
}

func TestLevelsOfSeveralLocksAndOfSomeOfThem(t *testing.T) {
	client, direct := clientOf(t, start(t))
	all, err := client.AcquireAll(t.Context(), []string{"a", "b"}, locks.Lease(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	one, err := client.Acquire(all.Context(), "b", locks.Lease(time.Minute), locks.Wait(0))
	if err != nil {
		t.Fatal(err)
	}
	both, err := client.AcquireAll(one.Context(), []string{"b", "a"}, locks.Wait(0))
	if err != nil {
		t.Fatal(err)
	}
	if one.Level() != 2 || both.Level() != 3 || one.Fence() != all.Fence() || both.Fence() != all.Fence() {
		t.Fatal(one.Level(), both.Level())
	}
	// The lease, too, is one for all.
	if left := all.Remaining(); left < 30*time.Second || !slices.Equal(one.Names(), []string{"b"}) {
		t.Fatal(left, one.Names())
	}
	if left := direct.Do(t.Context(), "LOCK.CHECK", "a", all.Token()).Val().([]any)[1].(int64); left < 30_000 {
		t.Fatal(left)
	}
	// Who holds some of them has to wait for the others.
	if _, err := client.AcquireAll(one.Context(), []string{"b", "c"}, locks.Wait(0)); !errors.Is(err, locks.ErrNotAcquired) {
		t.Fatal(err)
	}
	for _, each := range []*locks.Lock{one, both} {
		if err := each.Release(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range all.Names() {
		info, err := direct.Do(t.Context(), "LOCK.INFO", name).Result()
		if err != nil || !strings.Contains(fmt.Sprint(info), "level:1") {
			t.Fatal(name, err, info)
		}
	}
	// A token that is handed on.
	handed, err := client.AcquireAll(t.Context(), []string{"a", "b"}, locks.Token(all.Token()), locks.Level(2))
	if err != nil || handed.Fence() != all.Fence() {
		t.Fatal(err)
	}
	if err := errors.Join(handed.Release(), all.Release()); err != nil {
		t.Fatal(err)
	}
	isFree(t, direct, "a", "b")
}

func TestOptionsThatCannotBeAreSaidBeforeAnythingIsSent(t *testing.T) {
	var asked atomic.Bool
	dial := func(context.Context, string, string) (net.Conn, error) {
		asked.Store(true)
		return nil, errors.New("there is nobody")
	}
	nowhere := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: dial})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, Dialer: dial})
	one, nodes, several := locks.New(nowhere), locks.New(cluster), locks.NewRedlock(nowhere, nowhere, nowhere)
	t.Cleanup(func() { one.Close(); nodes.Close(); several.Close(); nowhere.Close(); cluster.Close() })
	some := func(number int) (names []string) {
		for each := range number {
			names = append(names, fmt.Sprint(each))
		}
		return names
	}
	for what, impossible := range map[string]struct {
		client *locks.Client
		names  []string
		how    []locks.Option
		says   string
	}{
		"no name":                        {one, nil, nil, "one lock or more"},
		"too many names":                 {one, some(257), nil, "at most 256"},
		"other slots":                    {nodes, []string{"a", "b"}, nil, "put the same {tag} in all names"},
		"Redlock of several":             {several, some(2), nil, "several locks together"},
		"a session of Redlock":           {several, nil, []locks.Option{locks.Session()}, "neither sessions"},
		"a weight of 0":                  {one, some(1), []locks.Option{locks.Limit(3), locks.Weight(0)}, "a weight"},
		"a weight above the limit":       {one, some(1), []locks.Option{locks.Limit(3), locks.Weight(4)}, "a weight"},
		"a weight without a limit":       {one, some(1), []locks.Option{locks.Weight(2)}, "a weight"},
		"a weight above what there is":   {one, some(1), []locks.Option{locks.Shared(), locks.Weight(65536)}, "a weight"},
		"a delay without a session":      {one, some(1), []locks.Option{locks.Delay(time.Second)}, "a delay"},
		"a delay that is less than none": {one, some(1), []locks.Option{locks.Session(), locks.Delay(-1)}, "a delay"},
		"a limit of 0":                   {one, some(1), []locks.Option{locks.Limit(0)}, "a limit"},
		"a limit above what there is":    {one, some(1), []locks.Option{locks.Limit(65536)}, "a limit"},
		"a weight of less than none":     {one, some(1), []locks.Option{locks.Limit(3), locks.Weight(-1)}, "a weight"},
		"a level of 0":                   {one, some(1), []locks.Option{locks.Level(0)}, "a level"},
		"a level below":                  {one, some(1), []locks.Option{locks.Token("handed on"), locks.Level(-1)}, "a level"},
		"a session of a level":           {one, some(1), []locks.Option{locks.Token("handed on"), locks.Level(2), locks.Session()}, "has no session"},
		"replicas below none":            {one, some(1), []locks.Option{locks.Replicas(-1)}, "replicas"},
	} {
		var err error
		if impossible.names == nil && impossible.how != nil {
			_, err = impossible.client.Acquire(t.Context(), "one", impossible.how...)
		} else {
			_, err = impossible.client.AcquireAll(t.Context(), impossible.names, impossible.how...)
		}
		if !errors.Is(err, locks.ErrInvalid) || !strings.Contains(err.Error(), impossible.says) || asked.Load() {
			t.Error(what, err, asked.Load())
		}
	}
}

func TestAWeightCountsForSeveralPermits(t *testing.T) {
	client, _ := clientOf(t, start(t))
	three, err := client.Acquire(t.Context(), "semaphore", locks.Limit(5), locks.Weight(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Acquire(t.Context(), "semaphore", locks.Limit(5), locks.Weight(3), locks.Wait(0)); !errors.Is(err, locks.ErrNotAcquired) {
		t.Fatal(err)
	}
	two, err := client.Acquire(t.Context(), "semaphore", locks.Limit(5), locks.Weight(2), locks.Wait(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(three.Release(), two.Release()); err != nil {
		t.Fatal(err)
	}
}

func TestADelayKeepsTheHoldOfASessionThatIsGone(t *testing.T) {
	client, direct := clientOf(t, start(t))
	held, err := client.Acquire(t.Context(), "delayed", locks.Session(), locks.Delay(20*time.Second), locks.Lease(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if killed, err := direct.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Int(); err != nil || killed == 0 {
		t.Fatal(killed, err)
	}
	select {
	case <-held.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("it is not lost")
	}
	if !holds(t, direct, held, "delayed") {
		t.Fatal("it is not kept")
	}
	// Who says that the work has ended need not wait.
	if err := held.Release(); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	isFree(t, direct, "delayed")
}

func TestACommandRunsOnlyWhileTheLockIsHeld(t *testing.T) {
	client, direct := clientOf(t, start(t))
	ctx := t.Context()
	held, err := client.AcquireAll(ctx, []string{"a", "b"}, locks.Lease(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if total, err := held.Guard(ctx, "INCRBY", "total", 5).Int64(); err != nil || total != 5 {
		t.Fatal(total, err)
	}
	if said, err := held.GuardBy(ctx, "b", "SET", "text", "x").Text(); err != nil || said != "OK" {
		t.Fatal(said, err)
	}
	if err := held.Guard(ctx, "GET", "nothing").Err(); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	if err := held.Guard(ctx, "INCR", "text").Err(); err == nil || errors.Is(err, locks.ErrLost) || !held.Held() {
		t.Fatal(err)
	}
	if err := held.GuardBy(ctx, "c", "INCR", "total").Err(); err == nil || errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := held.Guard(ended, "INCR", "total").Err(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	direct.Do(ctx, "LOCK.BREAK", "b")
	if err := held.Guard(ctx, "INCR", "total").Err(); err != nil {
		t.Fatal(err)
	}
	if err := held.GuardBy(ctx, "b", "INCR", "total").Err(); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	<-held.Lost()
	if err := held.Guard(ctx, "INCR", "total").Err(); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	isFree(t, direct, "a")
	if total, err := direct.Get(ctx, "total").Int64(); err != nil || total != 6 {
		t.Fatal(total, err)
	}
}

func TestARedlockGuardsNothing(t *testing.T) {
	some := redis.NewClient(&redis.Options{Addr: start(t)})
	client := locks.NewRedlock(some)
	t.Cleanup(func() { client.Close(); some.Close() })
	held, err := client.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Guard(t.Context(), "PING").Err(); err == nil || errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
	if !held.Held() {
		t.Fatal("it counts as lost")
	}
	releaseOfSeveral(t, held)
}

func TestEachAcquireHasALabelOfItsOwn(t *testing.T) {
	client, direct := clientOf(t, start(t))
	seen := map[string]bool{}
	host, _ := os.Hostname()
	for _, name := range []string{"a", "b"} {
		if _, err := client.Acquire(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		info := fmt.Sprint(direct.Do(t.Context(), "LOCK.INFO", name).Val())
		label := regexp.MustCompile(fmt.Sprintf(`owner:(%s:%d:\d+) `, regexp.QuoteMeta(host), os.Getpid())).FindStringSubmatch(info)
		if label == nil || seen[label[1]] {
			t.Fatal(info, seen)
		}
		seen[label[1]] = true
	}
}

func TestAReleaseSaysWhenNobodyKnowsWhatCameOfIt(t *testing.T) {
	client, direct := clientOf(t, start(t))
	held, err := client.Acquire(t.Context(), "unknown")
	if err != nil {
		t.Fatal(err)
	}
	// An error that does not pass: the user may do nothing any more.
	if err := direct.Do(t.Context(), "ACL", "SETUSER", "default", "-lock.release").Err(); err != nil {
		t.Fatal(err)
	}
	if err := held.Release(); !errors.Is(err, locks.ErrUnknown) || errors.Is(err, locks.ErrLost) || !strings.Contains(err.Error(), "NOPERM") {
		t.Fatal(err)
	}
	select {
	case <-held.Lost():
		t.Fatal("that says nothing of a loss")
	default:
	}
}

// Those that wait are given up by it, and those that come meanwhile are refused: whatever they do, nothing is left.
func TestCloseBesideAcquires(t *testing.T) {
	address := start(t)
	_, direct := clientOf(t, address)
	direct.Do(t.Context(), "LOCK.ACQUIRE", "taken", "PX", 60000, "TOKEN", "other")
	for range 20 {
		own := redis.NewClient(&redis.Options{Addr: address})
		client := locks.New(own)
		var all sync.WaitGroup
		for number := range 20 {
			all.Add(1)
			go func() {
				defer all.Done()
				name := "taken"
				if number%2 == 0 {
					name = fmt.Sprint("free ", number)
				}
				for {
					held, err := client.Acquire(context.Background(), name, locks.Lease(time.Minute))
					if errors.Is(err, locks.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(name, err)
						return
					}
					_ = held.Release()
				}
			}()
		}
		time.Sleep(20 * time.Millisecond)
		client.Close()
		client.Close()
		all.Wait()
		own.Close()
	}
	if err := direct.Do(t.Context(), "LOCK.RELEASE", "taken", "other").Err(); err != nil {
		t.Fatal(err)
	}
	isFree(t, direct, "taken")
}

func TestALevelThatWasHandedOnDoesNotCutTheLeaseOfTheOuterOne(t *testing.T) {
	client, direct := clientOf(t, start(t))
	outer, err := client.Acquire(t.Context(), "outer", locks.Lease(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := client.Acquire(t.Context(), "outer", locks.Token(outer.Token()), locks.Level(2), locks.AtLeast(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := inner.Release(); err != nil {
		t.Fatal(err)
	}
	if left := direct.Do(t.Context(), "LOCK.CHECK", "outer", outer.Token()).Val().([]any)[1].(int64); left < 20_000 {
		t.Fatal(left)
	}
	if info := fmt.Sprint(direct.Do(t.Context(), "LOCK.INFO", "outer").Val()); !strings.Contains(info, "level:1") {
		t.Fatal(info)
	}
	if err := outer.Release(); err != nil {
		t.Fatal(err)
	}
}
