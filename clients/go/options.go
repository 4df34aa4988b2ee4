package locks

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"sync/atomic"
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
	// What the server takes.
	mostNames  = 256
	mostWeight = 65535
	mostLevels = 65535
	// unsaid is the weight of who says none, which is 1, and the level, which the context says.
	unsaid = math.MinInt
)

// Option says how a lock is acquired.
type Option func(*options)

// Lease is the time until the lock ends by itself, 30 seconds by default. It is renewed each third of that.
func Lease(lease time.Duration) Option { return func(o *options) { o.lease = lease } }

// Wait bounds the time to wait for the lock; 0 is not at all. By default Acquire waits until its context ends.
func Wait(wait time.Duration) Option { return func(o *options) { o.wait = wait } }

// Shared acquires the lock together with any number of others that ask for it so.
func Shared() Option { return func(o *options) { o.shared = true } }

// Limit acquires the lock together with others, up to so many holders, or as many as weigh so much. It is 1 to 65535.
func Limit(holders int) Option { return func(o *options) { o.limit, o.shared = holders, false } }

// Weight is how much the hold counts beside a limit, 1 by default and at most the limit: Limit(5) with Weight(3) takes three
// of the five permits of a semaphore. With Shared it is at most 65535.
func Weight(weight int) Option { return func(o *options) { o.weight = weight } }

// Owner is what LOCK.INFO shows: by default host, process id, and a number that is new for each acquire. Give workers that
// can hold several locks a label of their own, and the server finds deadlocks among them.
func Owner(owner string) Option { return func(o *options) { o.owner = owner } }

// Token and Level ask for a level of the hold of other work, which has handed on its token. Level 1 without a token is
// always a hold of its own. A level that is asked for so has no Session.
func Token(token string) Option { return func(o *options) { o.token = token } }

// Level: see Token.
func Level(level int) Option { return func(o *options) { o.level = level } }

// Session ties the hold to a connection: it ends at once when the process dies.
func Session() Option { return func(o *options) { o.session = true } }

// Delay keeps the hold of a Session for that long once its connection has closed, at most until its lease ends: work that was
// under way can end before anybody else begins. Here the lock counts as lost all the same when its connection is. A release
// ends it at once.
func Delay(delay time.Duration) Option { return func(o *options) { o.delay = delay } }

// Replicas is how many have to confirm the grant and each extension.
func Replicas(replicas int) Option { return func(o *options) { o.replicas = replicas } }

// AtLeast is how long nobody else gets the lock, even if it is released sooner. An inner level has none.
func AtLeast(atLeast time.Duration) Option { return func(o *options) { o.atLeast = atLeast } }

// NoRenewal lets the lease run out unless it is extended by hand.
func NoRenewal() Option { return func(o *options) { o.renew = false } }

type options struct {
	// Without repeats. The first is the one that the lock is called by.
	names []string
	// Of several locks together, by the commands for that, also if it is one name.
	several  bool
	lease    time.Duration
	wait     time.Duration
	shared   bool
	limit    int
	weight   int // or unsaid
	owner    string
	token    string
	level    int // or unsaid
	session  bool
	delay    time.Duration
	replicas int
	atLeast  time.Duration
	renew    bool
}

func optionsOf(names []string, several bool, some []Option) (options, error) {
	o := options{several: several, lease: defaultLease, wait: forEver, limit: 1, weight: unsaid, level: unsaid, renew: true}
	for _, each := range some {
		each(&o)
	}
	for _, name := range names {
		if !slices.Contains(o.names, name) {
			o.names = append(o.names, name)
		}
	}
	if o.owner == "" {
		o.owner = newOwner()
	}
	most := o.limit
	if o.shared {
		most = mostWeight
	}
	switch {
	case len(o.names) == 0 || len(o.names) > mostNames:
		return o, invalid("one lock or more are acquired together, and at most %d", mostNames)
	case o.limit < 1 || o.limit > mostWeight:
		return o, invalid("a limit is between 1 and %d", mostWeight)
	case o.weight != unsaid && (o.weight < 1 || o.weight > most):
		return o, invalid("a weight is between 1 and the limit, or with Shared 65535")
	case o.delay < 0 || o.delay > 0 && !o.session:
		return o, invalid("a delay is not negative, and only a session has one")
	case o.lease <= 0 || o.wait < 0 || o.atLeast < 0:
		return o, invalid("lease, wait and at least are not negative, and a lease is not zero")
	case o.replicas < 0:
		return o, invalid("replicas are not negative")
	case o.level != unsaid && (o.level < 1 || o.level > mostLevels):
		return o, invalid("a level is between 1 and %d", mostLevels)
	case o.level > 1 && o.session:
		return o, invalid("a level that was handed on has no session: that would tie the whole hold to another connection")
	case o.level > 1 && o.token == "":
		return o, invalid("a level above 1 needs the token that was handed on")
	case o.session && o.atLeast > 0:
		return o, invalid("a session ends with its connection, so it cannot have at least")
	}
	o.lease = whole(o.lease)
	return o, nil
}

// The token is made before anything is sent, so that a request whose reply was lost can be sent again.
func newToken() string {
	var token [16]byte
	rand.Read(token[:])
	return hex.EncodeToString(token[:])
}

var (
	thisProcess = func() string {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		// A label is at most 255 bytes.
		return fmt.Sprintf("%.200s:%d", host, os.Getpid())
	}()
	acquires atomic.Uint64
)

// newOwner is a label of its own for each acquire: the server takes who has the same label for one worker, who waits for
// himself where he waits for what he holds. Nothing tells one goroutine from another.
func newOwner() string { return fmt.Sprintf("%s:%d", thisProcess, acquires.Add(1)) }

// ms is a time as the server takes it: at least 1, since BLOCK 0 waits without end.
func ms(time time.Duration) int64 { return max(1, time.Milliseconds()) }

// whole is a lease as the server takes it.
func whole(lease time.Duration) time.Duration { return time.Duration(ms(lease)) * time.Millisecond }

// command begins one for the lock, or for several.
func (o options) command(verb string, more ...any) []any {
	if !o.several {
		return append([]any{"LOCK." + verb, o.names[0]}, more...)
	}
	words := []any{"LOCK.M" + verb, len(o.names)}
	for _, name := range o.names {
		words = append(words, name)
	}
	return append(words, more...)
}

// of gives the same for one of the names.
func (o options) of(name string) options {
	o.names, o.several = []string{name}, false
	return o
}

// have says whether all these names are among those here.
func (o options) have(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(o.names, name) })
}

func (o options) acquire(more ...any) []any {
	words := o.command("ACQUIRE", "PX", ms(o.lease), "TOKEN", o.token)
	switch {
	case o.level > 1:
		// Label, limit and weight stay those of the outer level.
		words = append(words, "LEVEL", o.level)
	case o.shared:
		words = append(words, "OWNER", o.owner, "SHARED")
	default:
		words = append(words, "OWNER", o.owner, "LIMIT", o.limit)
	}
	if o.level <= 1 && o.weight != unsaid {
		words = append(words, "WEIGHT", o.weight)
	}
	if o.session {
		words = append(words, "SESSION")
		if o.delay > 0 {
			words = append(words, "DELAY", ms(o.delay))
		}
	}
	return append(words, more...)
}

func (o options) extend(lease time.Duration) []any {
	return o.command("EXTEND", o.token, "PX", ms(lease))
}

// release is not for a level of several, which are given back one by one.
func (o options) release() []any {
	words := o.command("RELEASE", o.token)
	if o.level > 1 {
		words = append(words, "LEVEL", o.level)
	}
	return words
}

// isYes says whether a release or an extension has found the hold, of each lock, or a level was granted.
func (o options) isYes(reply any) bool {
	count, isCount := reply.(int64)
	return reply != nil && (!isCount || count == int64(len(o.names)))
}
