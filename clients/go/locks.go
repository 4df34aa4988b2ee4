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
	if o.level == unsaid && o.token == "" {
		if outer := outerOf(ctx, c, o.names); outer != nil {
			return c.acquireLevel(ctx, outer, o)
		}
	}
	if o.token == "" {
		o.token = newToken()
	}
	remote := c.place.forHold(o)
	g, err := c.acquire(ctx, remote, o, remote.end, func() {})
	switch {
	case err != nil:
		return nil, err
	case g == nil:
		remote.end()
		return nil, notAcquired(o.names)
	}
	return newLock(ctx, c, newHold(c, remote, o, g), o, nil), nil
}

func notAcquired(names []string) error { return fmt.Errorf("%w: %q", ErrNotAcquired, names) }

// acquireLevel acquires the next level of a hold, in turn with all else that changes the hold. Before the next one begins, one
// that was given up is released.
func (c *Client) acquireLevel(ctx context.Context, outer *Lock, asked options) (*Lock, error) {
	h, began := outer.hold, time.Now()
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.closed.Done():
		return nil, ErrClosed
	case <-time.After(max(asked.wait, patience)):
		return nil, notAcquired(asked.names)
	}
	o := h.asked()
	o.level, o.lease, o.wait = h.nextLevel(), asked.lease, max(0, asked.wait-time.Since(began))
	g, err := c.acquire(ctx, h.remote, o, func() {}, h.turn.end)
	if err != nil {
		// The context may be that of another lock, which was lost.
		if ctx.Err() == nil && errors.Is(err, ErrLost) {
			h.isGone()
		}
		return nil, err
	}
	defer h.turn.end()
	switch {
	case g == nil:
		return nil, notAcquired(asked.names)
	case h.remaining() == 0:
		// It has ended by our own clock meanwhile, and nothing says after that that it is held.
		c.undo(patience, func() { _, _ = h.remote.release(o, time.Time{}) })
		return nil, ErrLost
	}
	h.confirm(o.level, g.ends, o.lease)
	o.names = asked.names
	return newLock(ctx, c, h, o, outer), nil
}

// acquire gives up at once when the context ends, or the client is closed, and what was asked then is undone: after end, which
// closes a connection of its own. After an error nothing of it is under way any more once settled is called, which may be later.
func (c *Client) acquire(ctx context.Context, remote remote, o options, end, settled func()) (*grant, error) {
	if err := ctx.Err(); err != nil {
		settled()
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
	select {
	case got := <-acquired:
		if got.err != nil {
			c.undo(patience, func() {
				defer settled()
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
		// The first of these ends a wait at the server, so that it answers.
		c.undo(patience, func() {
			defer settled()
			end()
			undo()
			if got := <-acquired; got.err != nil {
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
// so, and Unlock when it is not held, or was lost. Who shares the locker waits for the Unlock of the one before, also if the
// lock was lost: so each Unlock gives back what its own Lock has acquired. With Shared, and a Limit above 1, Lock panics.
func (c *Client) Locker(ctx context.Context, name string, how ...Option) sync.Locker {
	return &locker{client: c, context: ctx, name: name, how: how, turn: make(turn, 1)}
}

type locker struct {
	client  *Client
	context context.Context
	name    string
	how     []Option
	turn    turn

	mu   sync.Mutex
	held *Lock
}

func (l *locker) Lock() {
	held, err := l.acquire()
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	l.held = held
	l.mu.Unlock()
}

func (l *locker) acquire() (*Lock, error) {
	o, err := optionsOf([]string{l.name}, false, l.how)
	if err == nil && (o.shared || o.limit > 1) {
		err = invalid("a Locker has one holder at a time")
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if !l.turn.beginNow() {
		select {
		case l.turn <- struct{}{}:
		case <-l.context.Done():
			return nil, context.Cause(l.context)
		case <-l.client.closed.Done():
			return nil, ErrClosed
		case <-time.After(o.wait):
			return nil, notAcquired(o.names)
		}
	}
	if o.wait < forEver {
		o.wait = max(0, o.wait-time.Since(began))
	}
	held, err := l.client.acquireBy(l.context, o)
	if err != nil {
		l.turn.end()
	}
	return held, err
}

func (l *locker) Unlock() {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	if held == nil {
		panic("locks: Unlock of a Locker that is not locked")
	}
	defer l.turn.end()
	if err := held.Release(); err != nil {
		panic(err)
	}
}
