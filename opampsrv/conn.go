package opampsrv

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// conn is one WebSocket. Its reader goroutine runs [conn.read]; a writer runs
// [conn.write] while there is something to write. What is below mu's line is
// guarded by the server's mutex.
type conn struct {
	srv *Server
	ws  *websocket.Conn

	// room is signalled when the writer has taken a reply, or has given up.
	room chan struct{}

	// Guarded by srv.mu.
	agents    []*agent                    // those it speaks for
	replies   []outbound                  // to be written, in order
	offers    []*agent                    // with an offer to be written
	displaced map[fleet.AgentID]time.Time // spoke here once, elsewhere since then; usually nil
	renames   map[fleet.AgentID]rename    // told another uid; usually nil
	heard     time.Time                   // last message or pong
	answered  time.Time                   // when the last ping was sent that was answered
	ping      bool                        // a ping is to be written
	closing   int                         // close code to be written; then nothing more
	writing   bool                        // a writer runs
	ended     bool                        // the reader has returned, or the writer has failed
	reason    string                      // why it ended, when the reader cannot know
}

// outbound is one message in the mailbox.
type outbound struct {
	agent *agent // whose reply it is; nil for a refusal, which carries nothing else
	msg   *protobufs.ServerToAgent
}

// maxReplies is how many replies may wait. A peer that does not read them is not
// read from either.
const maxReplies = 64

// The memory of messages in transit is shared. A buffer above maxPooled is not kept.
const maxPooled = 64 << 10

// read takes messages until the connection ends, and returns why it did.
func (c *conn) read() (reason string) {
	c.ws.SetReadLimit(c.srv.cfg.MaxMessage)
	c.ws.SetPongHandler(func(sent string) error { c.pong(sent, time.Now()); return nil })
	c.hear(time.Now())
	for {
		if err := c.next(); err != nil {
			return c.ending(err)
		}
	}
}

// next takes one message. An error means that the connection is at its end.
func (c *conn) next() error {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return err
	}
	buf := c.srv.buffers.Get().(*bytes.Buffer)
	defer c.srv.release(buf)
	buf.Reset()
	if _, err := io.Copy(buf, r); err != nil {
		return err
	}
	now := time.Now()
	c.hear(now)
	c.srv.metrics.received.WithLabelValues(overWebSocket).Inc()
	m, err := decodeFrame(buf.Bytes())
	if kind != websocket.BinaryMessage {
		err = errText
	}
	var x exchange
	if err != nil {
		x = exchange{reply: refusal(c.soleAgent(), badRequest, err), bad: badMalformed}
	} else {
		x = c.srv.receive(c, m, now)
	}
	if x.bad != "" {
		c.srv.metrics.errors.WithLabelValues(overWebSocket, x.bad).Inc()
	}
	for _, r := range x.reports {
		c.srv.cfg.OnReport(r)
	}
	c.reply(outbound{agent: x.agent, msg: x.reply})
	c.srv.metrics.duration.WithLabelValues(overWebSocket).Observe(time.Since(now).Seconds())
	return nil
}

// soleAgent is the uid to answer a message that has none, when there is no doubt.
func (c *conn) soleAgent() []byte {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if len(c.agents) != 1 {
		return nil
	}
	return slices.Clone(c.agents[0].id[:])
}

// hear notes a sign of life and moves the idle deadline.
func (c *conn) hear(now time.Time) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.heard = now
	if c.closing == 0 {
		_ = c.ws.SetReadDeadline(now.Add(c.srv.cfg.IdleTimeout)) // an error shows at the next read
	}
}

// pong notes the answer to a ping, which carries when that was sent. It keeps the
// connection open only while that is of use to an agent.
func (c *conn) pong(sent string, now time.Time) {
	c.srv.mu.Lock()
	if nanos, err := strconv.ParseInt(sent, 10, 64); err == nil {
		c.answered = time.Unix(0, nanos)
	}
	used := len(c.agents) > 0
	c.srv.mu.Unlock()
	if used {
		c.hear(now)
	}
}

// reply puts a reply into the mailbox, and waits while that is full.
func (c *conn) reply(o outbound) {
	for {
		c.srv.mu.Lock()
		full := len(c.replies) >= maxReplies && !c.ended
		if !full {
			c.push(o)
		}
		c.srv.mu.Unlock()
		if !full {
			return
		}
		<-c.room // bounded: each write has a deadline
	}
}

// push puts a message into the mailbox. The caller holds srv.mu.
func (c *conn) push(o outbound) {
	if c.ended {
		return
	}
	c.replies = append(c.replies, o)
	c.wake()
}

// offered notes that a has an offer to be written. The caller holds srv.mu.
func (c *conn) offered(a *agent) {
	if !a.queued {
		a.queued = true
		c.offers = append(c.offers, a)
	}
	c.wake()
}

// wake makes sure that a writer runs. The caller holds srv.mu.
func (c *conn) wake() {
	if c.writing || c.ended {
		return
	}
	c.writing = true
	c.srv.running.Add(1)
	go c.write()
}

// shut asks the writer to send a close frame, as the last thing written, and
// gives the peer until the deadline to answer it. The caller holds srv.mu.
func (c *conn) shut(code int, deadline time.Time) {
	if c.closing != 0 || c.ended {
		return
	}
	c.closing, c.reason = code, closedShutdown
	_ = c.ws.SetReadDeadline(deadline) // an error shows at the next read
	c.wake()
}

// end drops the mailbox. The caller holds srv.mu.
func (c *conn) end() {
	c.ended = true
	c.replies, c.offers = nil, nil
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// displace notes that a speaks elsewhere from now on, and asks whether anybody is
// still here. The caller holds srv.mu.
func (c *conn) displace(a *agent, now time.Time) {
	if c.displaced == nil {
		c.displaced = map[fleet.AgentID]time.Time{}
	}
	c.displaced[a.id] = now
	c.forget(a)
	c.ping = true
	c.wake()
}

// forget takes a off the connection. The caller holds srv.mu.
func (c *conn) forget(a *agent) {
	same := func(b *agent) bool { return a == b }
	c.agents = slices.DeleteFunc(c.agents, same)
	c.offers = slices.DeleteFunc(c.offers, same)
	a.queued = false
	if a.offer != nil && a.conn == c {
		a.offer = nil // whoever offered it sees a new session
	}
}

// rename notes a uid that an agent was given. The caller holds srv.mu.
func (c *conn) rename(id fleet.AgentID, r rename) {
	if c.renames == nil {
		c.renames = map[fleet.AgentID]rename{}
	}
	if len(c.renames) >= c.srv.cfg.MaxAgentsPerConnection {
		clear(c.renames)
	}
	c.renames[id] = r
}

// ending says why the connection ended, for the books, and sends a close frame
// where the reader is the one to do it.
func (c *conn) ending(err error) string {
	c.srv.mu.Lock()
	reason := c.reason
	c.srv.mu.Unlock()
	var peer *websocket.CloseError
	var broken net.Error
	isNet := errors.As(err, &broken)
	switch {
	case reason != "":
		return reason
	case errors.Is(err, websocket.ErrReadLimit):
		return closedTooBig // gorilla has sent 1009
	case errors.As(err, &peer) && peer.Code != websocket.CloseAbnormalClosure:
		return closedByPeer
	case isNet && broken.Timeout(): // gorilla hides os.ErrDeadlineExceeded
		c.farewell(websocket.ClosePolicyViolation, "idle")
		return closedIdle
	case peer != nil, isNet, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return closedAbnormal
	}
	return closedProtocol // gorilla has sent 1002
}

// farewell sends a close frame, if it can be sent soon.
func (c *conn) farewell(code int, text string) {
	deadline := time.Now().Add(min(time.Second, c.srv.cfg.SendTimeout))
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), deadline) // the end either way
}

// bufferPool hands out buffers for messages in transit.
func newBufferPool() *sync.Pool { return &sync.Pool{New: func() any { return new(bytes.Buffer) }} }
