package locks_test

import (
	"net"
	"sync"
	"testing"
)

// proxy stands before a server.
type proxy struct {
	address string
	// Called with what the client sends, before the server gets it, if it is set.
	sends func(what string)

	mu    sync.Mutex
	muted bool
	mutes int
	open  map[net.Conn]bool
}

// mute keeps the replies on all connections until they close: those that are there, and those that come before it ends.
func (p *proxy) mute(is bool) {
	p.mu.Lock()
	p.muted = is
	if is {
		p.mutes++
	}
	p.mu.Unlock()
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

func before(t *testing.T, server string, sends func(what string)) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: listener.Addr().String(), sends: sends, open: map[net.Conn]bool{}}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client, server)
		}
	}()
	return p
}

func (p *proxy) serve(client net.Conn, server string) {
	defer client.Close()
	to, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer to.Close()
	p.mu.Lock()
	p.open[client] = true
	isMuted, mutes := p.muted, p.mutes
	p.mu.Unlock()
	go func() {
		defer client.Close()
		some := make([]byte, 1<<16)
		for {
			n, err := to.Read(some)
			p.mu.Lock()
			isMuted = isMuted || p.mutes != mutes
			p.mu.Unlock()
			if err != nil {
				return
			}
			if !isMuted {
				client.Write(some[:n])
			}
		}
	}()
	some := make([]byte, 1<<16)
	for {
		n, err := client.Read(some)
		if err != nil {
			break
		}
		if p.sends != nil {
			p.sends(string(some[:n]))
		}
		to.Write(some[:n])
	}
	p.mu.Lock()
	delete(p.open, client)
	p.mu.Unlock()
}
