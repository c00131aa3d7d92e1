package opampsrv

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// work is what a writer does next: one of a message, a ping and a close frame.
type work struct {
	msg   *protobufs.ServerToAgent
	offer *payload
	ping  bool
	code  int
}

// write empties the mailbox and returns. A write that fails ends the connection.
func (c *conn) write() {
	defer c.srv.running.Done()
	for {
		w, ok := c.take()
		if !ok {
			return
		}
		if err := c.send(w); err != nil {
			c.fail(err)
			return
		}
	}
}

// take returns the next thing to write. When there is none the writer is no more:
// whoever has the next one starts another. A close frame comes before everything
// and is the last; replies come in order, and each takes its agent's offer along.
func (c *conn) take() (work, bool) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	switch {
	case c.ended:
	case c.closing > 0:
		code := c.closing
		c.closing = -1
		return work{code: code}, true
	case c.closing < 0: // the frame is out: the rest is dropped
	case len(c.replies) > 0:
		o := c.replies[0]
		c.replies[0] = outbound{}
		if c.replies = c.replies[1:]; len(c.replies) == 0 {
			c.replies = nil
		}
		select {
		case c.room <- struct{}{}:
		default:
		}
		w := work{msg: o.msg}
		if o.agent != nil && o.agent.conn == c {
			w.offer = o.agent.takeOffer()
		}
		return w, true
	case c.ping:
		c.ping = false
		return work{ping: true}, true
	default:
		for len(c.offers) > 0 {
			a := c.offers[0]
			c.offers[0] = nil
			if c.offers = c.offers[1:]; len(c.offers) == 0 {
				c.offers = nil
			}
			a.queued = false
			if p := a.takeOffer(); p != nil {
				return work{msg: &protobufs.ServerToAgent{InstanceUid: a.id[:]}, offer: p}, true
			}
		}
	}
	c.writing = false
	return work{}, false
}

// takeOffer empties the slot. It is nil when there is nothing to send, or nothing
// that may be sent any more. The caller holds the server's mutex.
func (a *agent) takeOffer() *payload {
	p := a.offer
	a.offer = nil
	if p == nil || !a.live || !a.mayReceive(p.delivery) {
		return nil
	}
	return p
}

// send writes one thing within SendTimeout.
func (c *conn) send(w work) error {
	deadline := time.Now().Add(c.srv.cfg.SendTimeout)
	switch {
	case w.code != 0:
		return c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(w.code, "server is shutting down"), deadline)
	case w.ping:
		return c.ws.WriteControl(websocket.PingMessage, strconv.AppendInt(nil, time.Now().UnixNano(), 10), deadline)
	}
	buf := c.srv.buffers.Get().(*bytes.Buffer)
	defer c.srv.release(buf)
	buf.Reset()
	frame, err := appendMessage(append(buf.AvailableBuffer(), 0), w.msg, w.offer)
	if err != nil {
		return err
	}
	if int64(len(frame))-1 > c.srv.cfg.MaxMessage {
		c.srv.oversized(overWebSocket, len(frame))
		return nil
	}
	*buf = *bytes.NewBuffer(frame)      // the pool keeps what has grown
	_ = c.ws.SetWriteDeadline(deadline) // never fails
	if err := c.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		return fmt.Errorf("writing a message: %w", err)
	}
	c.srv.metrics.sent.WithLabelValues(overWebSocket).Inc()
	return nil
}

// fail ends a connection that did not take what was written to it.
func (c *conn) fail(err error) {
	var late net.Error
	c.srv.mu.Lock()
	if c.reason == "" && errors.As(err, &late) && late.Timeout() {
		c.reason = closedSlow
	}
	c.srv.mu.Unlock()
	_ = c.ws.Close() // the reader sees it and does the rest
	c.srv.mu.Lock()
	c.end()
	c.srv.mu.Unlock()
	c.srv.metrics.errors.WithLabelValues(overWebSocket, badSend).Inc()
	c.srv.log.Debug("connection failed", "err", err)
}
