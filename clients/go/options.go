package locks

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	defaultLease = 30 * time.Second
	// Between a request that failed and the next one.
	pause = 100 * time.Millisecond
	// Between requests of one who waits: less than lock.claim-lease, with room for a slow reply.
	repeat = 2 * time.Second
	// soon is the first such pause of one who waits without a connection.
	soon = 50 * time.Millisecond
	// How long a place is kept: longer than it takes to come back after a broken connection.
	queue = 15 * time.Second
	// How long an acquire that does not wait tries again what passes.
	patience = 2 * time.Second
	// Of a client that has none: no request may hang for ever.
	defaultTimeout = 5 * time.Second
	forEver        = time.Duration(1<<63 - 1)
)

// Option says how a lock is acquired.
type Option func(*options)

// Lease is the time until the lock ends by itself, 30 seconds by default. It is renewed each third of that.
func Lease(lease time.Duration) Option { return func(o *options) { o.lease = lease } }

// Wait bounds the time to wait for the lock; 0 is not at all. By default Acquire waits until its context ends.
func Wait(wait time.Duration) Option { return func(o *options) { o.wait = wait } }

// Shared acquires the lock together with any number of others that ask for it so.
func Shared() Option { return func(o *options) { o.limit = 0 } }

// Limit acquires the lock together with others, up to so many holders.
func Limit(holders int) Option { return func(o *options) { o.limit = holders } }

// Owner is what LOCK.INFO shows: by default host and process id.
func Owner(owner string) Option { return func(o *options) { o.owner = owner } }

// Token and Level ask for a level of the hold of other work, which has handed on its token. Level 1 without a token is
// always a hold of its own.
func Token(token string) Option { return func(o *options) { o.token = token } }

// Level: see Token.
func Level(level int) Option { return func(o *options) { o.level = level } }

// Session ties the hold to a connection: it ends at once when the process dies.
func Session() Option { return func(o *options) { o.session = true } }

// Replicas is how many have to confirm the grant and each extension.
func Replicas(replicas int) Option { return func(o *options) { o.replicas = replicas } }

// AtLeast is how long nobody else gets the lock, even if it is released sooner.
func AtLeast(atLeast time.Duration) Option { return func(o *options) { o.atLeast = atLeast } }

// NoRenewal lets the lease run out unless it is extended by hand.
func NoRenewal() Option { return func(o *options) { o.renew = false } }

type options struct {
	name     string
	lease    time.Duration
	wait     time.Duration
	limit    int // 0 is shared
	owner    string
	token    string
	level    int // 0 is what the context says
	session  bool
	replicas int
	atLeast  time.Duration
	renew    bool
}

func optionsOf(name string, some []Option) (options, error) {
	o := options{name: name, lease: defaultLease, wait: forEver, limit: 1, owner: thisProcess, renew: true}
	for _, each := range some {
		each(&o)
	}
	switch {
	case o.lease <= 0 || o.wait < 0 || o.atLeast < 0:
		return o, errors.New("locks: lease, wait and at least are not negative, and a lease is not zero")
	case o.level > 1 && o.token == "":
		return o, errors.New("locks: a level above 1 needs the token that was handed on")
	case o.session && o.atLeast > 0:
		return o, errors.New("locks: a session ends with its connection, so it cannot have at least")
	}
	return o, nil
}

// The token is made before anything is sent, so that a request whose reply was lost can be sent again.
func newToken() string {
	var token [16]byte
	rand.Read(token[:])
	return hex.EncodeToString(token[:])
}

var thisProcess = func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}()

// ms is a time as the server takes it: at least 1, since BLOCK 0 waits without end.
func ms(time time.Duration) int64 { return max(1, time.Milliseconds()) }

func (o options) acquire(more ...any) []any {
	words := []any{"LOCK.ACQUIRE", o.name, "PX", ms(o.lease), "TOKEN", o.token}
	switch {
	case o.level > 1:
		// Label and limit stay those of the outer level.
		words = append(words, "LEVEL", o.level)
	case o.limit == 0:
		words = append(words, "OWNER", o.owner, "SHARED")
	default:
		words = append(words, "OWNER", o.owner, "LIMIT", o.limit)
	}
	if o.session {
		words = append(words, "SESSION")
	}
	return append(words, more...)
}

func (o options) extend(lease time.Duration) []any {
	return []any{"LOCK.EXTEND", o.name, o.token, "PX", ms(lease)}
}

func (o options) release() []any {
	words := []any{"LOCK.RELEASE", o.name, o.token}
	if o.level > 1 {
		words = append(words, "LEVEL", o.level)
	}
	return words
}
