package locks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// How often a command is sent on, from one node of a cluster to another.
const redirections = 5

// server is one server, the master that Sentinels name, or the node of a cluster that has the lock. It has connections of
// its own, with the settings of the client it is given: what others send would hold up a release. They repeat nothing by
// themselves, since the steps do that, within a lease.
type server struct {
	single  *redis.Client
	cluster *redis.ClusterClient
	timeout time.Duration
	leave   leave

	mu       sync.Mutex
	nodes    map[string]*redis.Client
	moved    map[uint16]string // where a slot is, as an error has said
	sessions map[*session]bool
	isClosed bool
}

func newServer(client redis.UniversalClient, blocked int) (*server, error) {
	switch client := client.(type) {
	case *redis.Client:
		return newSingle(client.Options(), blocked), nil
	case *redis.ClusterClient:
		s := serverWith(client.Options().ReadTimeout, blocked)
		s.cluster = client
		return s, nil
	}
	return nil, fmt.Errorf("locks: %T is none of *redis.Client and *redis.ClusterClient", client)
}

func newSingle(settings *redis.Options, blocked int) *server {
	s := serverWith(settings.ReadTimeout, blocked)
	s.single = redis.NewClient(like(settings, s.timeout))
	return s
}

func serverWith(timeout time.Duration, blocked int) *server {
	return &server{
		timeout: timeoutOf(timeout), leave: leave{free: blocked},
		nodes: map[string]*redis.Client{}, moved: map[uint16]string{}, sessions: map[*session]bool{},
	}
}

func timeoutOf(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return defaultTimeout
	}
	return timeout
}

// like gives the same settings, for connections of our own.
func like(of *redis.Options, timeout time.Duration) *redis.Options {
	o := *of
	o.MaxRetries, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = -1, timeout, timeout, false
	// As many as there are requests: a release waits for no connection.
	o.PoolSize, o.MinIdleConns, o.MaxActiveConns = 10_000, 0, 0
	return &o
}

func (s *server) close() {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.sessions))
	s.isClosed = true
	s.mu.Unlock()
	for _, each := range open {
		each.end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.single != nil {
		s.single.Close()
	}
	for _, each := range s.nodes {
		each.Close()
	}
}

// node is the client for the node that has the lock.
func (s *server) node(name string) (*redis.Client, error) {
	if s.single != nil {
		return s.single, nil
	}
	s.mu.Lock()
	address, isMoved := s.moved[slotOf(name)]
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	known, err := s.cluster.MasterForKey(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("locks: no node has the slot of the lock: %w", err)
	}
	settings := *known.Options()
	if isMoved {
		settings.Addr = address
	}
	return s.nodeAt(&settings)
}

func (s *server) nodeAt(settings *redis.Options) (*redis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return nil, ErrClosed
	}
	node, ok := s.nodes[settings.Addr]
	if !ok {
		node = redis.NewClient(like(settings, s.timeout))
		s.nodes[settings.Addr] = node
	}
	return node, nil
}

// learn minds what an error says of where the lock is. For ASK it gives the node to ask this once.
func (s *server) learn(name string, at *redis.Client, err error) *redis.Client {
	if s.cluster == nil {
		return nil
	}
	switch codeOf(err) {
	case "MOVED":
		address := addressIn(err, at)
		s.mu.Lock()
		s.moved[slotOf(name)] = address
		s.mu.Unlock()
		s.cluster.ReloadState(context.Background())
	case "ASK":
		settings := *at.Options()
		settings.Addr = addressIn(err, at)
		if node, err := s.nodeAt(&settings); err == nil {
			return node
		}
	case "", "CLUSTERDOWN", "READONLY":
		s.mu.Lock()
		delete(s.moved, slotOf(name))
		s.mu.Unlock()
		s.cluster.ReloadState(context.Background())
	}
	return nil
}

// addressIn reads the node that a redirection names. Without a host it is that of the node that says so.
func addressIn(err error, at *redis.Client) string {
	words := strings.Fields(err.Error())
	address := words[len(words)-1]
	if strings.HasPrefix(address, ":") {
		if host, _, err := net.SplitHostPort(at.Options().Addr); err == nil {
			return host + address
		}
	}
	return address
}

func (s *server) ask(words []any, replicas int) (any, int64, error) {
	name := nameIn(words)
	node, err := s.node(name)
	if err != nil {
		s.learn(name, nil, err)
		return nil, 0, err
	}
	reply, confirmed, err := s.send(node, words, replicas, false)
	if err != nil {
		if asked := s.learn(name, node, err); asked != nil {
			return s.send(asked, words, replicas, true)
		}
	}
	return reply, confirmed, err
}

// nameIn gives the first lock that a command names. All that it names are in one slot.
func nameIn(words []any) string {
	if strings.HasPrefix(words[0].(string), "LOCK.M") {
		return words[2].(string)
	}
	return words[1].(string)
}

func (s *server) check(o options) error {
	if s.cluster == nil {
		return nil
	}
	for _, name := range o.names[1:] {
		if slotOf(name) != slotOf(o.names[0]) {
			return invalid("%q and %q are in different slots of the cluster: put the same {tag} in all names", o.names[0], name)
		}
	}
	return nil
}

// guard follows redirections, which say that nothing has run, and repeats nothing else: after a lost reply the command may
// have run.
func (s *server) guard(ctx context.Context, words []any) *redis.Cmd {
	name := nameIn(words)
	var asked *redis.Client
	for again := redirections; ; again-- {
		node, err := s.node(name)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			failed := redis.NewCmd(ctx, words...)
			failed.SetErr(err)
			return failed
		}
		var said *redis.Cmd
		if asked == nil {
			said = node.Do(ctx, words...)
		} else {
			pipe := asked.Pipeline()
			pipe.Do(ctx, "ASKING")
			said = pipe.Do(ctx, words...)
			if _, err := pipe.Exec(ctx); said.Err() == nil && said.Val() == nil {
				said.SetErr(err)
			}
		}
		if said.Err() == nil {
			return said
		}
		asked = s.learn(name, node, said.Err())
		code := codeOf(said.Err())
		if s.cluster == nil || code != "MOVED" && asked == nil || again == 0 {
			return said
		}
	}
}

func (s *server) askInTurn(words []any, wait time.Duration) (any, error) {
	began := time.Now()
	if s.leave.takeNow() {
		return s.askBlocking(words, wait)
	}
	// Who keeps a place waits on a connection as soon as it may: whose turn comes must not have to be called first. Until then it
	// asks again: soon at first, since its turn may come before the turns of those who are blocked, and at random, or many would
	// come to ask in step.
	for next := soon; ; next = min(2*next, repeat) {
		reply, _, err := s.ask(words, 0)
		ticket, isTicket := reply.(int64)
		if !isTicket {
			return reply, err
		}
		left := max(wait-time.Since(began), time.Millisecond)
		if s.leave.take(ticket, min(left, next/2+rand.N(next/2))) {
			return s.askBlocking(words, left)
		}
		if next == repeat || time.Since(began) >= wait {
			return reply, err
		}
	}
}

// askBlocking waits on a connection, of those that may be blocked, for which the caller has taken leave.
func (s *server) askBlocking(words []any, wait time.Duration) (any, error) {
	defer s.leave.giveBack()
	began := time.Now()
	// Well below the socket timeout: the end of BLOCK is a reply, and not a lost one.
	block := min(wait, repeat, s.timeout/2)
	reply, _, err := s.ask(append(words, "BLOCK", ms(block)), 0)
	if _, isTicket := reply.(int64); isTicket {
		// Some connections cannot block: Valkey's with RESP3 and subscriptions.
		time.Sleep(time.Until(began.Add(min(block, pause))))
	}
	return reply, err
}

func (s *server) acquire(ctx context.Context, o options) (*grant, error) { return acquiring(ctx, s, o) }

func (s *server) extend(o options, lease time.Duration, until time.Time) (time.Time, bool, error) {
	return extending(s, o, lease, until)
}

func (s *server) release(o options, keepUntil time.Time) (bool, error) {
	return releasing(s, o, keepUntil)
}

func (s *server) isGone() bool { return false }

func (s *server) end() {}

func (s *server) forHold(o options) remote {
	if o.session {
		return &session{server: s, options: o}
	}
	return s
}

// send gives the reply, nil for null, and with replicas how many have what was written so far.
func (s *server) send(to *redis.Client, words []any, replicas int, asking bool) (any, int64, error) {
	ctx := context.Background()
	if replicas == 0 && !asking {
		reply, err := to.Do(ctx, words...).Result()
		return given(reply, err)
	}
	pipe := to.Pipeline()
	if asking {
		pipe.Do(ctx, "ASKING")
	}
	command := pipe.Do(ctx, words...)
	var waiting *redis.Cmd
	if replicas > 0 {
		waiting = pipe.Do(ctx, "WAIT", replicas, ms(min(time.Second, s.timeout/2)))
	}
	_, failed := pipe.Exec(ctx)
	reply, _, err := given(command.Result())
	if command.Err() == nil && reply == nil {
		// Null is an error of go-redis. This is where there was no connection, which it does not say of each command.
		err = failed
	}
	if err != nil || waiting == nil {
		return reply, 0, err
	}
	confirmed, err := waiting.Int64()
	return reply, confirmed, err
}

func given(reply any, err error) (any, int64, error) {
	if errors.Is(err, redis.Nil) {
		return nil, 0, nil
	}
	return reply, 0, err
}

// session is a connection of its own for one hold, which ends with it. What releases the hold goes by another one.
type session struct {
	server  *server
	options options

	mu   sync.Mutex
	own  *line
	conn net.Conn
	// The node that ASK has named for the next connection.
	asked   *redis.Client
	isEnded bool
}

// line is a connection to a node. Where ASK has named it, ASKING comes before each command.
type line struct {
	*redis.Client
	node   *redis.Client
	asking bool
}

func (s *session) line() (*line, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.isEnded:
		return nil, ErrClosed
	case s.own != nil:
		return s.own, nil
	}
	own := &line{node: s.asked, asking: s.asked != nil}
	s.asked = nil
	if !own.asking {
		var err error
		if own.node, err = s.server.node(s.options.names[0]); err != nil {
			return nil, err
		}
	}
	settings := *own.node.Options()
	settings.PoolSize, settings.ReadTimeout, settings.MaxRetries = 1, -1, -1
	if s.options.wait < forEver {
		settings.ReadTimeout = s.options.wait + defaultTimeout
	}
	dial := settings.Dialer
	settings.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if s.conn != nil || s.own != own {
			// By the next connection the hold would not be tied to anything, and by one that comes late neither.
			conn.Close()
			return nil, net.ErrClosed
		}
		s.conn = conn
		return conn, nil
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.isClosed {
		return nil, ErrClosed
	}
	own.Client = redis.NewClient(&settings)
	s.own = own
	s.server.sessions[s] = true
	return own, nil
}

func (s *session) ask(words []any, replicas int) (any, int64, error) {
	if strings.HasSuffix(words[0].(string), "RELEASE") {
		return s.server.ask(words, 0)
	}
	own, err := s.line()
	if err != nil {
		return nil, 0, err
	}
	reply, confirmed, err := s.server.send(own.Client, words, replicas, own.asking)
	if err != nil {
		s.drop()
		asked := s.server.learn(s.options.names[0], own.node, err)
		s.mu.Lock()
		s.asked = asked
		s.mu.Unlock()
	}
	return reply, confirmed, err
}

func (s *session) askInTurn(words []any, wait time.Duration) (any, error) {
	block := int64(0)
	if wait < forEver {
		block = ms(wait)
	}
	reply, _, err := s.ask(append(words, "BLOCK", block), 0)
	return reply, err
}

func (s *session) acquire(ctx context.Context, o options) (*grant, error) {
	return acquiring(ctx, s, o)
}

func (s *session) extend(o options, lease time.Duration, until time.Time) (time.Time, bool, error) {
	return extending(s, o, lease, until)
}

func (s *session) release(o options, keepUntil time.Time) (bool, error) {
	return releasing(s, o, keepUntil)
}

func (s *session) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own == nil || s.conn == nil || isClosed(s.conn)
}

func (s *session) end() {
	s.mu.Lock()
	s.isEnded = true
	s.mu.Unlock()
	s.drop()
}

// drop closes the connection. Unless the session has ended, the next request may open another one.
func (s *session) drop() {
	s.mu.Lock()
	own := s.own
	s.own, s.conn = nil, nil
	s.mu.Unlock()
	s.server.mu.Lock()
	delete(s.server.sessions, s)
	s.server.mu.Unlock()
	if own != nil {
		own.Close()
	}
}
