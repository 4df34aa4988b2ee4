package locks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The Redlock algorithm. One token, asked of all servers at once: it is held when a majority has granted it while something
// is left of the lease, less what the clocks of the servers may differ by. What was granted by fewer is given back at once,
// and asked for again after a time at random, or those who contend would do so in step and split the servers again. There is
// no queue: who waits in several could wait for ever for one who waits there too.

const (
	// At most, between two tries.
	retry = 200 * time.Millisecond
	// For a reply, or a connection: or one server that is away would use up the lease.
	redlockTimeout = 300 * time.Millisecond
	// To release at a server whose reply was lost; what is held there otherwise ends with its lease.
	tries = 3
)

// drift is by how much a lease may end sooner at a server than here: 1 % for the clocks, 2 ms for their resolution.
func drift(lease time.Duration) time.Duration { return lease/100 + 2*time.Millisecond }

// NewRedlock makes a client of locks that are held of a majority of these servers, which know nothing of each other. One
// server with a replica, Replicas(1) and fences is the better choice for almost everybody: see README.md.
func NewRedlock(clients ...*redis.Client) *Client {
	m := &majority{quorum: len(clients)/2 + 1}
	for _, each := range clients {
		m.servers = append(m.servers, newSingle(impatient(each.Options()), 0))
	}
	return newClient(m)
}

// impatient gives the same settings, but for who does not wait long.
func impatient(of *redis.Options) *redis.Options {
	o, dial := *of, of.Dialer
	o.ReadTimeout = min(timeoutOf(o.ReadTimeout), redlockTimeout)
	o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, redlockTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}
	return &o
}

type majority struct {
	servers []*server
	quorum  int
}

type answer struct {
	reply any
	err   error
}

// askAll asks those that are named, all at once, and has an answer for each server.
func (m *majority) askAll(words []any, only []int) []answer {
	answers := make([]answer, len(m.servers))
	var asking sync.WaitGroup
	for _, at := range only {
		asking.Add(1)
		go func() {
			defer asking.Done()
			answers[at].reply, _, answers[at].err = m.servers[at].ask(append([]any{}, words...), 0)
		}()
	}
	asking.Wait()
	return answers
}

func (m *majority) all() []int {
	all := make([]int, len(m.servers))
	for at := range all {
		all[at] = at
	}
	return all
}

func (m *majority) acquire(ctx context.Context, o options) (*grant, error) {
	began := time.Now()
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		sent := time.Now()
		answers := m.askAll(o.acquire(), m.all())
		ends := sent.Add(o.lease - drift(o.lease))
		granted, failed, fence := 0, 0, int64(0)
		for _, each := range answers {
			if number, ok := fenceOf(each.reply); ok {
				granted++
				fence = max(fence, number)
			} else if each.err != nil {
				failed++
			}
		}
		if granted >= m.quorum && time.Now().Before(ends) {
			return &grant{fence, ends}, nil
		}
		m.release(o, time.Time{})
		wait := o.wait
		// Those that failed may have made the majority, and are asked again.
		isOpen := granted+failed >= m.quorum
		if isOpen {
			wait = max(wait, patience)
		}
		isOver := time.Since(began) >= wait
		if err := m.failure(answers, isOpen && isOver); err != nil {
			return nil, err
		}
		if o.level > 1 && !isOpen {
			return nil, fmt.Errorf("%w: its outer level does not hold it any more", ErrLost)
		}
		if isOver {
			return nil, nil
		}
		sleep(ctx, min(wait-time.Since(began), retry/4+rand.N(retry*3/4)))
	}
}

// failure is the first error where so many have failed that there can be no majority: at once if they do not pass.
func (m *majority) failure(answers []answer, isOver bool) error {
	for _, counts := range []func(error) bool{func(err error) bool { return !passes(err) }, func(error) bool { return isOver }} {
		failed, first := 0, error(nil)
		for _, each := range answers {
			if each.err != nil && counts(each.err) {
				if failed++; first == nil {
					first = each.err
				}
			}
		}
		if failed > len(m.servers)-m.quorum {
			return forCaller(first)
		}
	}
	return nil
}

func (m *majority) extend(o options, lease time.Duration, until time.Time) (time.Time, bool, error) {
	words := o.extend(lease)
	if o.level > 1 {
		o.lease = lease
		words = o.acquire()
	}
	for {
		sent := time.Now()
		yes, failed, last := 0, 0, error(nil)
		for _, each := range m.askAll(words, m.all()) {
			switch {
			case each.err != nil && codeOf(each.err) != "WRONGTYPE":
				failed, last = failed+1, each.err
			case o.isYes(each.reply):
				yes++
			}
		}
		if yes >= m.quorum {
			return sent.Add(lease - drift(lease)), true, nil
		}
		if yes+failed < m.quorum {
			return time.Time{}, false, nil
		}
		if until.Before(time.Now().Add(pause)) {
			return time.Time{}, false, forCaller(last)
		}
		time.Sleep(min(pause, lease/10))
	}
}

func (m *majority) release(o options, keepUntil time.Time) (bool, error) {
	left, yes, last := m.all(), 0, error(nil)
	for try := range tries {
		words := o.release()
		if rest := time.Until(keepUntil); rest > 0 {
			words = o.extend(rest)
		}
		answers := m.askAll(words, left)
		var again []int
		for _, at := range left {
			switch {
			case answers[at].err != nil && passes(answers[at].err):
				again, last = append(again, at), answers[at].err
			case answers[at].err != nil:
			// After a lost reply 0 says nothing: the first request may have released it.
			case o.isYes(answers[at].reply) || try > 0:
				yes++
			}
		}
		if left = again; len(left) == 0 {
			break
		}
	}
	was := yes >= m.quorum
	if !was && yes+len(left) >= m.quorum {
		return false, last
	}
	return was, nil
}

func (m *majority) isGone() bool { return false }

func (m *majority) end() {}

func (m *majority) check(o options) error {
	if o.session || o.replicas > 0 || o.several {
		return invalid("with several servers there are neither sessions nor replicas, nor several locks together")
	}
	return nil
}

func (m *majority) guard(ctx context.Context, words []any) *redis.Cmd {
	refused := redis.NewCmd(ctx, words...)
	refused.SetErr(invalid("with several servers no lock can guard a command"))
	return refused
}

func (m *majority) forHold(options) remote { return m }

func (m *majority) close() {
	for _, each := range m.servers {
		each.close()
	}
}
