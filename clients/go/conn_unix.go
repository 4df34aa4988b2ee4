//go:build unix

package locks

import (
	"crypto/tls"
	"net"
	"syscall"
)

// isClosed says whether the other side has closed the connection, on which nothing is to come.
func isClosed(conn net.Conn) bool {
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	of, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(descriptor uintptr) {
		var some [1]byte
		n, _, err := syscall.Recvfrom(int(descriptor), some[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return closed || err != nil
}
