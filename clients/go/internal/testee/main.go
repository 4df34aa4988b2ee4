// Testee has the client do what the proofs of clients/conformance tell it to; their README.md has the language.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"redis-lock.invalid/locks"
)

type request struct {
	ID       int            `json:"id"`
	Do       string         `json:"do"`
	By       string         `json:"by"`
	Client   string         `json:"client"`
	As       string         `json:"as"`
	Hold     string         `json:"hold"`
	Name     string         `json:"name"`
	Names    []string       `json:"names"`
	Command  []any          `json:"command"`
	Of       int            `json:"of"`
	Place    string         `json:"place"`
	Servers  [][2]any       `json:"servers"`
	Protocol int            `json:"protocol"`
	Timeout  int            `json:"timeout"`
	User     string         `json:"user"`
	Password string         `json:"password"`
	CA       string         `json:"ca"`
	Master   string         `json:"master"`
	Options  map[string]any `json:"options"`
}

type reply map[string]any

var kinds = []struct {
	name string
	kind error
}{
	{"NOTACQUIRED", locks.ErrNotAcquired}, {"LOST", locks.ErrLost}, {"QUEUEFULL", locks.ErrQueueFull},
	{"DEADLOCK", locks.ErrDeadlock}, {"NOPERM", locks.ErrNotPermitted}, {"WRONGTYPE", locks.ErrWrongType},
	{"REPLICAS", locks.ErrTooFewReplicas}, {"OTHER", locks.ErrInvalid},
}

func failed(err error) reply {
	if errors.Is(err, locks.ErrNotAcquired) {
		return reply{"outcome": "none"}
	}
	if errors.Is(err, context.Canceled) {
		return reply{"outcome": "cancelled"}
	}
	name := "OTHER"
	var said redis.Error
	if !errors.As(err, &said) {
		name = "CONNECTION"
	}
	for _, each := range kinds {
		if errors.Is(err, each.kind) {
			name = each.name
		}
	}
	return reply{"outcome": "error", "error": name, "message": err.Error()}
}

// held is a lock, and how often its signal has fired.
type held struct {
	*locks.Lock
	lost atomic.Int32
}

// actor does one thing after the other. What it holds is in the context of what it does next.
type actor struct {
	todo  chan func()
	holds []*held
}

func (a *actor) context() context.Context {
	for at := len(a.holds) - 1; at >= 0; at-- {
		if a.holds[at].Held() {
			return a.holds[at].Context()
		}
	}
	return context.Background()
}

type client struct {
	*locks.Client
	close func()
}

type testee struct {
	saying  sync.Mutex
	mu      sync.Mutex
	clients map[string]client
	holds   map[string]*held
	actors  map[string]*actor
	cancels map[int]context.CancelFunc
}

func (t *testee) say(what reply) {
	t.saying.Lock()
	defer t.saying.Unlock()
	text, _ := json.Marshal(what)
	fmt.Println(string(text))
}

func (t *testee) answer(id int, what reply) {
	what["id"] = id
	t.say(what)
}

func connect(r request) client {
	var addresses []string
	for _, each := range r.Servers {
		addresses = append(addresses, fmt.Sprintf("%v:%v", each[0], each[1]))
	}
	timeout := time.Duration(r.Timeout) * time.Millisecond
	var secure *tls.Config
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			panic(err)
		}
		secure = &tls.Config{RootCAs: x509.NewCertPool()}
		secure.RootCAs.AppendCertsFromPEM(pem)
	}
	one := func(address string) *redis.Client {
		return redis.NewClient(&redis.Options{
			Addr: address, Protocol: r.Protocol, ReadTimeout: timeout, Username: r.User, Password: r.Password, TLSConfig: secure,
		})
	}
	switch r.Place {
	case "redlock":
		var all []*redis.Client
		for _, each := range addresses {
			all = append(all, one(each))
		}
		return client{locks.NewRedlock(all...), func() {
			for _, each := range all {
				each.Close()
			}
		}}
	case "cluster":
		some := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: addresses, Protocol: r.Protocol, ReadTimeout: timeout, Username: r.User, Password: r.Password,
		})
		return client{locks.New(some), func() { some.Close() }}
	case "sentinel":
		some := redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: r.Master, SentinelAddrs: addresses, Protocol: r.Protocol, ReadTimeout: timeout,
			Username: r.User, Password: r.Password,
		})
		return client{locks.New(some), func() { some.Close() }}
	}
	some := one(addresses[0])
	return client{locks.New(some), func() { some.Close() }}
}

func optionsOf(given map[string]any) (how []locks.Option) {
	for name, value := range given {
		number, _ := value.(float64)
		span := time.Duration(number * float64(time.Millisecond))
		switch name {
		case "lease":
			how = append(how, locks.Lease(span))
		case "wait":
			how = append(how, locks.Wait(span))
		case "shared":
			how = append(how, locks.Shared())
		case "weight":
			how = append(how, locks.Weight(int(number)))
		case "delay":
			how = append(how, locks.Delay(span))
		case "limit":
			how = append(how, locks.Limit(int(number)))
		case "owner":
			how = append(how, locks.Owner(value.(string)))
		case "level":
			how = append(how, locks.Level(int(number)))
		case "token":
			how = append(how, locks.Token(value.(string)))
		case "session":
			how = append(how, locks.Session())
		case "replicas":
			how = append(how, locks.Replicas(int(number)))
		case "at_least":
			how = append(how, locks.AtLeast(span))
		case "renew":
			if value == false {
				how = append(how, locks.NoRenewal())
			}
		default:
			panic("no option is known as " + name)
		}
	}
	return how
}

func (t *testee) acquire(r request, by *actor, ctx context.Context) reply {
	t.mu.Lock()
	from := t.clients[r.Client]
	t.mu.Unlock()
	var lock *locks.Lock
	var err error
	if r.Names == nil {
		lock, err = from.Acquire(ctx, r.Name, optionsOf(r.Options)...)
	} else {
		lock, err = from.AcquireAll(ctx, r.Names, optionsOf(r.Options)...)
	}
	if err != nil {
		return failed(err)
	}
	h := &held{Lock: lock}
	go func() {
		<-lock.Lost()
		h.lost.Add(1)
	}()
	by.holds = append(by.holds, h)
	t.mu.Lock()
	t.holds[r.As] = h
	t.mu.Unlock()
	return reply{"outcome": "held", "fence": lock.Fence(), "token": lock.Token()}
}

func (t *testee) act(r request, by *actor) reply {
	switch r.Do {
	case "acquire":
		ctx, cancel := context.WithCancel(by.context())
		t.mu.Lock()
		waiting, was := t.cancels[r.ID]
		t.cancels[r.ID] = cancel
		t.mu.Unlock()
		if was && waiting == nil {
			// It was cancelled before it began.
			cancel()
		}
		return t.acquire(r, by, ctx)
	case "extend":
		lease, _ := r.Options["lease"].(float64)
		is, err := t.held(r).Extend(time.Duration(lease) * time.Millisecond)
		if err != nil {
			return failed(err)
		}
		return reply{"is": is}
	case "release":
		switch err := t.held(r).Release(); {
		case errors.Is(err, locks.ErrUnknown):
			return reply{"is": nil}
		default:
			return reply{"is": err == nil}
		}
	case "guard":
		h := t.held(r)
		name := r.Name
		if name == "" {
			name = h.Name()
		}
		said, err := h.GuardBy(context.Background(), name, r.Command...).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return failed(err)
		}
		return reply{"reply": said}
	}
	panic("nothing is known as " + r.Do)
}

func (t *testee) held(r request) *held {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holds[r.Hold]
}

func (t *testee) take(r request) {
	switch r.Do {
	case "connect":
		made := connect(r)
		t.mu.Lock()
		t.clients[r.Client] = made
		t.mu.Unlock()
		t.answer(r.ID, reply{})
	case "cancel":
		t.mu.Lock()
		cancel := t.cancels[r.Of]
		if cancel == nil {
			t.cancels[r.Of] = nil
		}
		t.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		t.answer(r.ID, reply{})
	case "state":
		h := t.held(r)
		is, remaining := h.Held(), h.Remaining()
		t.answer(r.ID, reply{"held": is && remaining > 0, "remaining": float64(remaining) / 1e6, "lost": h.lost.Load()})
	case "close":
		t.mu.Lock()
		from := t.clients[r.Client]
		t.mu.Unlock()
		go func() {
			from.Client.Close()
			from.close()
			t.answer(r.ID, reply{})
		}()
	default:
		by, ok := t.actors[r.By]
		if !ok {
			by = &actor{todo: make(chan func(), 1000)}
			t.actors[r.By] = by
			go func() {
				for what := range by.todo {
					what()
				}
			}()
		}
		by.todo <- func() { t.answer(r.ID, t.act(r, by)) }
	}
}

func main() {
	t := &testee{
		clients: map[string]client{}, holds: map[string]*held{}, actors: map[string]*actor{}, cancels: map[int]context.CancelFunc{},
	}
	t.say(reply{"ready": true, "protocols": []int{2, 3}, "places": []string{"standalone", "sentinel", "cluster", "redlock"}})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		if err := decoder.Decode(&r); err != nil {
			panic(err)
		}
		t.take(r)
	}
}
