package locks

import (
	"slices"
	"sync"
	"time"
)

// leave is who may wait on a connection, of which only so many may be blocked at a time. Where there are more, who has the
// lowest ticket comes first: its turn at the server does.
type leave struct {
	mu     sync.Mutex
	free   int
	asking []*applicant
}

type applicant struct {
	ticket int64
	got    chan struct{}
}

// takeNow says whether the caller has leave now. Nobody overtakes those who ask for it.
func (l *leave) takeNow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 || len(l.asking) > 0 {
		return false
	}
	l.free--
	return true
}

// take says whether the caller, who has this ticket, has got leave within the time.
func (l *leave) take(ticket int64, within time.Duration) bool {
	mine := &applicant{ticket, make(chan struct{}, 1)}
	l.mu.Lock()
	l.asking = append(l.asking, mine)
	l.handOver()
	l.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-mine.got:
		return true
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.Index(l.asking, mine)
	if at < 0 {
		// In the last moment.
		return true
	}
	l.asking = slices.Delete(l.asking, at, at+1)
	return false
}

func (l *leave) giveBack() {
	l.mu.Lock()
	l.free++
	l.handOver()
	l.mu.Unlock()
}

// handOver gives what is free to those who ask. The caller has the mutex.
func (l *leave) handOver() {
	for l.free > 0 && len(l.asking) > 0 {
		first := slices.MinFunc(l.asking, func(a, b *applicant) int { return int(a.ticket - b.ticket) })
		l.asking = slices.DeleteFunc(l.asking, func(each *applicant) bool { return each == first })
		l.free--
		first.got <- struct{}{}
	}
}
