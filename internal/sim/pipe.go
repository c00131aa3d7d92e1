package sim

import (
	"context"
	"net"
	"sync"
)

// Pipe is a listener whose connections are [net.Pipe]s: a network that fits in a
// testing/synctest bubble. Its Dial goes into [FleetConfig].
type Pipe struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

var _ net.Listener = (*Pipe)(nil)

// NewPipe makes one.
func NewPipe() *Pipe {
	return &Pipe{waiting: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects to the listener, whatever the address, and waits until that is
// accepted or ctx ends.
func (p *Pipe) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	server, client := net.Pipe()
	select {
	case p.waiting <- server:
		return client, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: p.Addr(), Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (p *Pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.waiting:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. Connections stay.
func (p *Pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements [net.Listener].
func (p *Pipe) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
