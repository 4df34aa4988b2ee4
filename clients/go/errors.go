package locks

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What reaches the caller. Other errors of the server and of go-redis are passed on as they are.
var (
	// ErrNotAcquired: the lock did not become available in time.
	ErrNotAcquired = errors.New("locks: the lock did not become available in time")
	// ErrLost: the lock, or its outer level, ended before it was released.
	ErrLost = errors.New("locks: the lock was lost")
	// ErrQueueFull: too many wait for this lock, or on this server.
	ErrQueueFull = errors.New("locks: too many wait")
	// ErrDeadlock: the wait could never have ended.
	ErrDeadlock = errors.New("locks: the wait could never end")
	// ErrNotPermitted: the user of this connection may not acquire this lock.
	ErrNotPermitted = errors.New("locks: not permitted")
	// ErrWrongType: the key holds something that is no lock.
	ErrWrongType = errors.New("locks: the key holds no lock")
	// ErrTooFewReplicas: fewer replicas than wanted have confirmed the grant. The lock was released again.
	ErrTooFewReplicas = errors.New("locks: too few replicas have confirmed")
	// ErrUnknown: no server has said whether the lock was held until its release. It ends with its lease.
	ErrUnknown = errors.New("locks: whether the lock was held until now is not known")
	// ErrInvalid: options that do not go together, are out of range, or cannot be had here. Nothing was sent.
	ErrInvalid = errors.New("locks: that cannot be asked for")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("locks: the client is closed")
)

var own = map[string]error{
	"QUEUEFULL": ErrQueueFull,
	"DEADLOCK":  ErrDeadlock,
	"NOPERM":    ErrNotPermitted,
	"WRONGTYPE": ErrWrongType,
}

var passing = strings.Fields("LOADING READONLY UNBLOCKED MOVED ASK TRYAGAIN CLUSTERDOWN MASTERDOWN BUSY NOREPLICAS MISCONF OOM")

// codeOf gives the word with which an error of the server begins, or nothing for other errors.
func codeOf(err error) string {
	var said redis.Error
	if !errors.As(err, &said) {
		return ""
	}
	code, _, _ := strings.Cut(said.Error(), " ")
	return code
}

// passes says whether the same request may succeed later: the table in docs/clients.md.
func passes(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, redis.ErrClosed) {
		return false
	}
	code := codeOf(err)
	if code == "" {
		// No reply: the connection is gone, or none could be made. Or too few replicas, which an extension asks again.
		return true
	}
	for _, each := range passing {
		if code == each {
			return true
		}
	}
	return false
}

func invalid(what string, more ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(what, more...))
}

// forCaller gives the error as the caller gets it.
func forCaller(err error) error {
	if known, ok := own[codeOf(err)]; ok {
		return fmt.Errorf("%w: %w", known, err)
	}
	return err
}
