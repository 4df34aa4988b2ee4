package locks

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// How often a session looks whether its connection is there.
const look = 100 * time.Millisecond

// turn lets one at a time do what has to be done one after the other.
type turn chan struct{}

func (t turn) begin() { t <- struct{}{} }

func (t turn) end() { <-t }

func (t turn) beginNow() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// hold is what one token holds, whatever its level: the lease by our own clock, its renewals, and the signal.
type hold struct {
	client   *Client
	remote   remote
	options  options
	fence    int64
	acquired time.Time
	lost     context.Context
	lose     context.CancelCauseFunc
	// Rung when what is due has changed.
	bell chan struct{}
	// Extensions, and levels that come and go, take turns: what is said last is what the server did last.
	turn turn

	mu   sync.Mutex
	ends time.Time
	// As long as it may last at the server, from when it was last extended.
	lease   time.Duration
	renewAt time.Time
	isOver  bool
	// The levels above the first, the innermost last. One that is released stays as long as there is another above it.
	inner []*Lock
}

func newHold(c *Client, remote remote, o options, g *grant) *hold {
	h := &hold{client: c, remote: remote, options: o, fence: g.fence, acquired: time.Now(), bell: make(chan struct{}, 1), turn: make(turn, 1)}
	h.lost, h.lose = context.WithCancelCause(context.Background())
	h.ends = g.ends
	h.confirm(o.level, g.ends, o.lease)
	go h.keep()
	return h
}

// remaining is 0 for good once it was: then the lock is lost, or was released.
func (h *hold) remaining() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isOver {
		return 0
	}
	left := time.Until(h.ends)
	if left <= 0 || h.options.session && h.remote.isGone() {
		h.isOver = true
		h.lose(ErrLost)
		return 0
	}
	return left
}

// confirm is in vain when it comes too late. A level above the first makes nothing shorter.
func (h *hold) confirm(level int, ends time.Time, lease time.Duration) {
	if h.remaining() == 0 {
		return
	}
	h.mu.Lock()
	if level > 1 {
		lease = max(lease, h.lease)
		if h.ends.After(ends) {
			ends = h.ends
		}
	}
	h.ends, h.lease, h.renewAt = ends, lease, ends.Add(-lease*2/3)
	h.mu.Unlock()
	h.ring()
}

func (h *hold) ring() {
	select {
	case h.bell <- struct{}{}:
	default:
	}
}

// end says whether it was held until now. Nothing says after it that it is.
func (h *hold) end() bool {
	held := h.remaining() > 0
	h.mu.Lock()
	held = held && !h.isOver
	h.isOver = true
	h.mu.Unlock()
	h.ring()
	return held
}

// isLost says whether it was held until now. Nobody is told of what was released.
func (h *hold) isLost() bool {
	held := h.end()
	if held {
		h.lose(ErrLost)
	}
	return held
}

// isGone is called when the server says that it is lost. Of several locks the token may still hold some, which nobody needs.
func (h *hold) isGone() {
	if h.isLost() && h.options.several && h.client.begin() {
		go func() {
			defer h.client.given.Done()
			_, _ = h.remote.release(h.asked(), time.Time{})
		}()
	}
}

// keep renews the lease in time, and notices when it is over.
func (h *hold) keep() {
	renewals := make(chan struct{}, 1)
	isRenewing := false
	for h.remaining() > 0 {
		h.mu.Lock()
		at, renewAt := h.ends, h.renewAt
		h.mu.Unlock()
		if h.options.renew && !isRenewing {
			if !time.Now().Before(renewAt) {
				isRenewing = true
				go func() {
					_ = h.extend(h.options.level, h.leaseNow())
					renewals <- struct{}{}
				}()
			} else if renewAt.Before(at) {
				at = renewAt
			}
		}
		left := time.Until(at)
		if h.options.session {
			left = min(left, look)
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-h.bell:
		case <-renewals:
			isRenewing = false
			h.mu.Lock()
			// If nothing has confirmed it, it is tried again a little later.
			if again := time.Now().Add(h.lease / 10); h.renewAt.Before(again) {
				h.renewAt = again
			}
			h.mu.Unlock()
		}
		timer.Stop()
	}
	if h.lost.Err() != nil {
		// What waits for a reply by a session gets none any more, and others wait for their turn behind it.
		h.remote.end()
	}
}

func (h *hold) leaseNow() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// asked is how the server was asked for it, with the lease that it may have now.
func (h *hold) asked() options {
	o := h.options
	o.lease = h.leaseNow()
	return o
}

// extend begins the lease anew, of a level that is still there.
func (h *hold) extend(level int, lease time.Duration) error {
	h.turn.begin()
	defer h.turn.end()
	if h.remaining() == 0 || level >= h.nextLevel() {
		return nil
	}
	h.mu.Lock()
	// A shorter lease may begin at once, and a longer one too, also if the reply is lost.
	if ends := time.Now().Add(lease); level <= 1 && ends.Before(h.ends) {
		h.ends = ends
	}
	h.lease = max(h.lease, lease)
	until := h.ends
	h.mu.Unlock()
	h.ring()
	o := h.options
	o.level = level
	ends, held, err := h.remote.extend(o, lease, until)
	switch {
	case err != nil && h.options.session:
		// Its connection is gone, and the lock with it.
		h.isLost()
	case err == nil && !held:
		h.isGone()
	case err == nil:
		h.confirm(level, ends, lease)
	}
	return err
}

// Lock is a lock that is held, or one level of it. All its methods may be called at the same time.
type Lock struct {
	hold    *hold
	options options
	client  *Client
	outer   *Lock
	// What the context of Acquire holds, of any name.
	around  *Lock
	context context.Context
	cancel  context.CancelCauseFunc

	mu         sync.Mutex
	isReleased bool
}

type heldKey struct{}

func newLock(ctx context.Context, client *Client, h *hold, o options, outer *Lock) *Lock {
	l := &Lock{hold: h, options: o, client: client, outer: outer}
	l.around, _ = ctx.Value(heldKey{}).(*Lock)
	if outer != nil {
		h.mu.Lock()
		h.inner = append(h.inner, l)
		h.mu.Unlock()
	}
	l.context, l.cancel = context.WithCancelCause(context.WithValue(ctx, heldKey{}, l))
	stop := context.AfterFunc(h.lost, func() { l.cancel(context.Cause(h.lost)) })
	context.AfterFunc(l.context, func() { stop() })
	return l
}

// outerOf gives the innermost level that the context is of of a hold of all these locks, and that was not released.
func outerOf(ctx context.Context, client *Client, names []string) *Lock {
	l, _ := ctx.Value(heldKey{}).(*Lock)
	for l != nil && (l.client != client || !l.hold.options.have(names) || l.released()) {
		l = l.around
	}
	return l
}

// Name of the lock; of several, the first.
func (l *Lock) Name() string { return l.options.names[0] }

// Names of all the locks, in the order in which they were given, without repeats.
func (l *Lock) Names() []string { return slices.Clone(l.options.names) }

// Token proves who holds it. Other work that has it, and asks with it and a higher level, holds the lock too.
func (l *Lock) Token() string { return l.options.token }

// Level is 1, or above that for who held the lock before.
func (l *Lock) Level() int { return max(1, l.options.level) }

// Fence rises with each grant: what the lock protects can refuse an older one. Several locks have one together.
func (l *Lock) Fence() int64 { return l.hold.fence }

// Remaining is what is left of the lease, counted from before it was asked for.
func (l *Lock) Remaining() time.Duration {
	if l.released() {
		return 0
	}
	return l.hold.remaining()
}

// Held says whether it is held, as far as is known here. Never again once it is lost or released.
func (l *Lock) Held() bool { return l.Remaining() > 0 }

// Context is that of Acquire. It is cancelled with the cause ErrLost when the lock is lost, and when it is released. Who
// asks for the same lock with it, or with one that is made of it, is granted the next level.
func (l *Lock) Context() context.Context { return l.context }

// Lost is closed once the lock is lost, and not when it is released.
func (l *Lock) Lost() <-chan struct{} { return l.hold.lost.Done() }

// Extend begins the lease anew, from now on with this length, or with the same if it is 0. False when the lock is lost, an
// error when the server could not be asked. A level above the first makes no lease shorter.
func (l *Lock) Extend(lease time.Duration) (bool, error) {
	switch {
	case lease < 0:
		return l.Held(), invalid("a lease is not negative")
	case lease == 0:
		lease = l.hold.leaseNow()
	}
	if l.Held() {
		if err := l.hold.extend(l.options.level, whole(lease)); err != nil {
			return l.Held(), err
		}
	}
	return l.Held(), nil
}

// Guard runs a command if the lock is held, in one step at the server: nobody else acquires the lock in between.
//
//	total, err := held.Guard(ctx, "INCRBY", "total:{44}", 5).Int64()
//
// If the lock is not held any more nothing has run, and the error is ErrLost. All other replies and errors are those of the
// command. After an error of the connection it may have run or not, and it is not repeated. Its keys have to be in the slot of
// the lock where there is a cluster, and docs/commands.md says what cannot be guarded. A context that has ended keeps it from
// being sent; after that the reply is waited for as long as the client lets it. Redlock does not have it.
func (l *Lock) Guard(ctx context.Context, command ...any) *redis.Cmd {
	return l.GuardBy(ctx, l.Name(), command...)
}

// GuardBy is Guard by the one of several locks that has this name, which Guard does by the first.
func (l *Lock) GuardBy(ctx context.Context, name string, command ...any) *redis.Cmd {
	words := append([]any{"LOCK.GUARD", name, l.options.token}, command...)
	said := redis.NewCmd(ctx, words...)
	switch {
	case !slices.Contains(l.hold.options.names, name):
		said.SetErr(invalid("%q is none of the locks that are held here", name))
	case !l.Held():
		said.SetErr(ErrLost)
	default:
		said = l.client.place.guard(ctx, words)
		if err := said.Err(); codeOf(err) == "NOTOWNER" {
			l.hold.isGone()
			said.SetErr(fmt.Errorf("%w: %w", ErrLost, err))
		}
	}
	return said
}

// Release gives it back. ErrLost says that it was lost before, and ErrUnknown that no server has said whether it was: then its
// lease ends it. What the context of Acquire has come to makes no difference.
func (l *Lock) Release() error {
	l.mu.Lock()
	again := l.isReleased
	l.isReleased = true
	l.mu.Unlock()
	if again {
		return ErrLost
	}
	defer l.cancel(context.Canceled)
	h := l.hold
	var wasHeld bool
	var gives options
	keepUntil := time.Time{}
	if l.outer != nil {
		h.turn.begin()
		defer h.turn.end()
		wasHeld, gives = h.remaining() > 0, h.asked()
		if gives.level = h.givenBack(); gives.level == 0 {
			if !wasHeld {
				return ErrLost
			}
			return nil
		}
	} else {
		wasHeld = h.end()
		defer h.remote.end()
		// Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
		if l.options.atLeast > 0 && l.options.level <= 1 && wasHeld {
			keepUntil = h.acquired.Add(l.options.atLeast)
			// An extension on its way must not come after the one that keeps the lock.
			h.turn.begin()
			defer h.turn.end()
		}
		gives = h.asked()
	}
	held, err := h.remote.release(gives, keepUntil)
	switch {
	case !wasHeld:
		return ErrLost
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case !held:
		h.isGone()
		h.lose(ErrLost)
		return ErrLost
	}
	return nil
}

// givenBack takes off the innermost levels that are released, and gives the lowest of them, or 0: the server gives back a
// level with all that is above it.
func (h *hold) givenBack() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	level := 0
	for last := len(h.inner) - 1; last >= 0 && h.inner[last].released(); last-- {
		level = h.inner[last].Level()
		h.inner = h.inner[:last]
	}
	return level
}

// nextLevel is that of who asks for it now.
func (h *hold) nextLevel() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := len(h.inner); last > 0 {
		return h.inner[last-1].Level() + 1
	}
	return max(1, h.options.level) + 1
}

func (l *Lock) released() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isReleased
}
