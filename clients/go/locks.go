package locks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Blocked is how many requests of a client wait on a connection at a time. Who waits beyond that keeps a place in the
// queue all the same, and waits on a connection as soon as one is free, the first in the queue first.
const Blocked = 32

// Client acquires locks. All its methods may be called at the same time.
type Client struct {
	place place
	// closed ends, with the cause ErrClosed, when Close is called.
	closed context.Context
	end    context.CancelCauseFunc
	// Acquires that are under way, and what goes on of them when nobody waits for it any more.
	given sync.WaitGroup

	mu       sync.Mutex
	isClosed bool
}

func newClient(of place) *Client {
	c := &Client{place: of}
	c.closed, c.end = context.WithCancelCause(context.Background())
	return c
}

// begin says whether an acquire may: those that come after Close may not.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isClosed {
		c.given.Add(1)
	}
	return !c.isClosed
}

// place is where locks are: one server, or several.
type place interface {
	remote
	// check says what cannot be asked for here.
	check(o options) error
	guard(ctx context.Context, words []any) *redis.Cmd
	forHold(o options) remote
	close()
}

// New makes a client of locks of the server that a *redis.Client is for, also one of Sentinels, or a *redis.ClusterClient.
// It takes the settings, and has connections of its own. Panics for other kinds of client.
func New(client redis.UniversalClient) *Client {
	server, err := newServer(client, Blocked)
	if err != nil {
		panic(err)
	}
	return newClient(server)
}

// Close gives up the requests that are under way, which get ErrClosed, and then closes the connections. What is held then
// lasts until its lease ends, and sessions end at once.
func (c *Client) Close() error {
	c.mu.Lock()
	c.isClosed = true
	c.mu.Unlock()
	c.end(ErrClosed)
	c.given.Wait()
	c.place.close()
	return nil
}

// Acquire waits until it holds the lock, for as long as the context and Wait let it. ErrNotAcquired says that the time of
// Wait is over. Where the context ends, its cause is returned, and nothing is held and nobody waits any more.
func (c *Client) Acquire(ctx context.Context, name string, how ...Option) (*Lock, error) {
	o, err := optionsOf([]string{name}, false, how)
	if err != nil {
		return nil, err
	}
	return c.acquireBy(ctx, o)
}

// AcquireAll is Acquire for several locks together: all of them or none, in one step, with one token and one fence, as one
// Lock. While it waits it holds none of them. It cannot come to a deadlock with others that do so, whatever the order of the
// names is. It is lost as soon as one of the locks is, and what is left of the others is given back then. In a cluster all
// names have to be in one slot: put the same {tag} in them. Redlock does not have it.
func (c *Client) AcquireAll(ctx context.Context, names []string, how ...Option) (*Lock, error) {
	o, err := optionsOf(names, true, how)
	if err != nil {
		return nil, err
	}
	return c.acquireBy(ctx, o)
}

func (c *Client) acquireBy(ctx context.Context, o options) (*Lock, error) {
	if err := c.place.check(o); err != nil {
		return nil, err
	}
	if !c.begin() {
		return nil, ErrClosed
	}
	defer c.given.Done()
	var outer *Lock
	if o.level == 0 && o.token == "" {
		outer = outerOf(ctx, c, o.names)
	}
	remote, asked := c.place.forHold(o), o.names
	if outer != nil {
		// A level of some of several locks is one of all: then one lease is the lease of all.
		o.names, o.several = outer.hold.options.names, outer.hold.options.several
		// One after the other, since each asks for the next level.
		outer.hold.extending.Lock()
		defer outer.hold.extending.Unlock()
		o.token, o.session, remote = outer.options.token, outer.options.session, outer.hold.remote
		o.level = outer.hold.nextLevel()
	}
	if o.token == "" {
		o.token = newToken()
	}
	g, err := c.acquire(ctx, remote, o, outer == nil)
	switch {
	case err != nil:
		if outer != nil && errors.Is(err, ErrLost) {
			outer.hold.isGone()
		}
		return nil, err
	case g == nil:
		if outer == nil {
			remote.end()
		}
		return nil, fmt.Errorf("%w: %q", ErrNotAcquired, asked)
	case outer == nil:
		return newLock(ctx, c, newHold(c, remote, o, g), o, nil), nil
	}
	// It was lost by our own clock meanwhile, and nothing says after that that it is held.
	if outer.hold.remaining() == 0 {
		return nil, ErrLost
	}
	outer.hold.mu.Lock()
	ends, lease := outer.hold.ends, outer.hold.lease
	outer.hold.mu.Unlock()
	if g.ends.After(ends) {
		ends = g.ends
	}
	outer.hold.confirm(ends, max(lease, o.lease))
	o.names = asked
	return newLock(ctx, c, outer.hold, o, outer), nil
}

// acquire gives up at once when the context ends, or the client is closed, and what was asked then is undone.
func (c *Client) acquire(ctx context.Context, remote remote, o options, isOwn bool) (*grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closed, func() { cancel(ErrClosed) })()
	type outcome struct {
		grant *grant
		err   error
	}
	acquired := make(chan outcome, 1)
	c.given.Add(1)
	go func() {
		defer c.given.Done()
		g, err := remote.acquire(ctx, o)
		acquired <- outcome{g, err}
	}()
	undo := func() { _, _ = c.place.release(o, time.Time{}) }
	end := func() {
		if isOwn {
			remote.end()
		}
	}
	select {
	case got := <-acquired:
		if got.err != nil {
			c.undo(patience, func() {
				end()
				undo()
				if passes(got.err) {
					// The server may read a request that was not answered, on a connection that was closed, after this.
					time.Sleep(pause)
					undo()
				}
			})
		}
		return got.grant, got.err
	case <-ctx.Done():
		// This ends a wait at the server, so that it answers.
		c.undo(patience, func() {
			undo()
			got := <-acquired
			end()
			if got.err != nil {
				time.Sleep(pause)
			}
			undo()
		})
		return nil, context.Cause(ctx)
	}
}

// undo returns once it is done, or after that time, and then it goes on.
func (c *Client) undo(within time.Duration, what func()) {
	done := make(chan struct{})
	c.given.Add(1)
	go func() {
		defer c.given.Done()
		defer close(done)
		what()
	}()
	select {
	case <-done:
	case <-time.After(within):
	}
}

// Do does the work while the lock is held, with a context that is cancelled when the lock is lost, and releases it. ErrLost
// says that it was lost before the work was done.
func (c *Client) Do(ctx context.Context, name string, work func(ctx context.Context, held *Lock) error, how ...Option) error {
	held, err := c.Acquire(ctx, name, how...)
	if err != nil {
		return err
	}
	return held.do(work)
}

// DoAll is Do for several locks together.
func (c *Client) DoAll(ctx context.Context, names []string, work func(ctx context.Context, held *Lock) error, how ...Option) error {
	held, err := c.AcquireAll(ctx, names, how...)
	if err != nil {
		return err
	}
	return held.do(work)
}

func (l *Lock) do(work func(ctx context.Context, held *Lock) error) (err error) {
	defer func() { err = errors.Join(err, l.Release()) }()
	return work(l.context, l)
}

// Locker is the lock for who wants a sync.Locker. Lock panics when it cannot be acquired, since it has no other way to say
// so, and Unlock when it is not held.
func (c *Client) Locker(ctx context.Context, name string, how ...Option) sync.Locker {
	return &locker{acquire: func() (*Lock, error) { return c.Acquire(ctx, name, how...) }}
}

type locker struct {
	acquire func() (*Lock, error)
	held    *Lock
}

func (l *locker) Lock() {
	held, err := l.acquire()
	if err != nil {
		panic(err)
	}
	l.held = held
}

func (l *locker) Unlock() {
	held := l.held
	l.held = nil
	if err := held.Release(); err != nil {
		panic(err)
	}
}
