package locks

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What is asked and when. The loops are those of docs/clients.md of redis-lock.

// remote is what a lock is held of: a server, a connection of its own to one, or a majority of servers.
type remote interface {
	// acquire gives nil when the lock was not available in time. Whatever else ends it has to be followed by a release.
	acquire(ctx context.Context, o options) (*grant, error)
	// extend gives when the lease ends, or false when the lock is lost, or an error when that cannot be said.
	extend(o options, lease time.Duration, until time.Time) (time.Time, bool, error)
	// release says whether the token held the lock until now; an error when that is not known.
	release(o options, keepUntil time.Time) (bool, error)
	// isGone says of a session whether its connection is.
	isGone() bool
	// end is called when nothing is held of it any more.
	end()
}

type grant struct {
	fence int64
	ends  time.Time // by our own clock
}

// asker sends requests: with replicas, WAIT comes behind on the same connection.
type asker interface {
	ask(words []any, replicas int) (reply any, confirmed int64, err error)
	// askInTurn asks to acquire and does not come back with a ticket before that may have been called, or wait is over.
	askInTurn(words []any, wait time.Duration) (any, error)
}

func acquiring(ctx context.Context, to asker, o options) (*grant, error) {
	began := time.Now()
	until := time.Time{}
	if o.wait < forEver {
		until = began.Add(o.wait)
	}
	isOver := func() bool { return !until.IsZero() && !time.Now().Before(until) }
	left := false
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		sent := time.Now()
		var reply any
		var err error
		if !isOver() && o.level <= 1 {
			left = true
			rest := forEver
			if !until.IsZero() {
				rest = time.Until(until)
			}
			words := o.acquire()
			if !o.session {
				words = append(words, "QUEUE", ms(queue))
			}
			reply, err = to.askInTurn(words, rest)
		} else {
			reply, _, err = to.ask(o.acquire(), 0)
		}
		if fence, ok := fenceOf(reply); err == nil && ok {
			var g *grant
			if g, err = confirmed(to, o, fence, sent); g != nil {
				return g, nil
			}
			if err == nil {
				if o.several {
					// One of them was lost, and who holds the rest while it waits may wait for ever.
					_, _ = releasing(to, o, time.Time{})
				}
				continue
			}
		}
		if err != nil {
			if !passes(err) || errors.Is(err, ErrTooFewReplicas) || isOver() && time.Since(began) >= patience {
				return nil, forCaller(err)
			}
			left = true
			sleep(ctx, pause)
			continue
		}
		if reply == nil && o.level > 1 {
			return nil, fmt.Errorf("%w: its outer level does not hold it any more", ErrLost)
		}
		if reply == nil || isOver() {
			if left {
				// Whether it was held matters to nobody.
				_, _ = releasing(to, o, time.Time{})
			}
			return nil, nil
		}
	}
}

// confirmed extends at once a grant whose lease may have begun long ago by our clock, or that replicas are to confirm.
func confirmed(to asker, o options, fence int64, sent time.Time) (*grant, error) {
	if o.replicas == 0 && time.Since(sent) < o.lease/10 {
		return &grant{fence, sent.Add(o.lease)}, nil
	}
	if o.session && o.replicas == 0 {
		// The server itself extends it, and so no less than the lease is left.
		return &grant{fence, time.Now().Add(o.lease)}, nil
	}
	ends, held, err := extending(to, o, o.lease, time.Time{})
	if err != nil || !held {
		return nil, err
	}
	return &grant{fence, ends}, nil
}

// extending tries again what passes as long as until has not come; once, if there is none.
func extending(to asker, o options, lease time.Duration, until time.Time) (time.Time, bool, error) {
	words := o.extend(lease)
	if o.level > 1 {
		// An inner level must not make the lease shorter, and LOCK.ACQUIRE with LEVEL does not.
		o.lease = lease
		words = o.acquire()
	}
	for {
		sent := time.Now()
		reply, replicas, err := to.ask(words, o.replicas)
		if err == nil {
			held := o.isYes(reply)
			if !held || replicas >= int64(o.replicas) {
				return sent.Add(lease), held, nil
			}
			err = fmt.Errorf("%w: %d of %d", ErrTooFewReplicas, replicas, o.replicas)
		}
		if codeOf(err) == "WRONGTYPE" {
			return time.Time{}, false, nil
		}
		// A session ends with its connection, and there is no other one to ask by.
		if o.session || until.Before(time.Now().Add(pause)) || !passes(err) {
			return time.Time{}, false, forCaller(err)
		}
		time.Sleep(min(pause, lease/10))
	}
}

// releasing lets the lease end at keepUntil, if that is later than now, and else at once.
func releasing(to asker, o options, keepUntil time.Time) (bool, error) {
	if o.several && o.level > 1 {
		return releasingEach(to, o)
	}
	// By then the lease, or the place in the queue, has ended anyway.
	until := time.Now().Add(max(queue, o.lease))
	for again := false; ; {
		words := o.release()
		if rest := time.Until(keepUntil); rest > 0 {
			words = o.extend(rest)
		}
		reply, _, err := to.ask(words, 0)
		switch {
		case err == nil:
			// After a lost reply 0 says nothing: the first request may have released it. By our own clock it was held.
			return o.isYes(reply) || again && reply == int64(0), nil
		case codeOf(err) == "WRONGTYPE":
			if o.several {
				// One of the keys holds something else. Of the others nothing was released.
				_, _ = releasingEach(to, o)
			}
			return false, nil
		case !passes(err) || !time.Now().Before(until):
			return false, err
		case codeOf(err) == "":
			// An error of the server would say that nothing was done.
			again = true
		}
		time.Sleep(pause)
	}
}

// releasingEach releases several locks one by one: there is no command that gives back a level of all.
func releasingEach(to asker, o options) (bool, error) {
	all, failed := true, error(nil)
	for _, name := range o.names {
		was, err := releasing(to, o.of(name), time.Time{})
		all = all && was
		if err != nil {
			failed = err
			if passes(err) {
				// It was tried for as long as the others could last.
				break
			}
		}
	}
	return all, failed
}

// fenceOf gives the fence of what was granted, if the lock was.
func fenceOf(reply any) (int64, bool) {
	given, ok := reply.([]any)
	if !ok || len(given) != 2 {
		return 0, false
	}
	fence, _ := given[1].(int64)
	return fence, true
}

func sleep(ctx context.Context, time_ time.Duration) {
	timer := time.NewTimer(time_)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
