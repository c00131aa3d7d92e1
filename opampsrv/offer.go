package opampsrv

import (
	"bytes"
	"fmt"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Offer puts a config into the agent's slot, in place of one that has not left
// yet. It goes out with the agent's next reply or at once over a WebSocket, and
// with the reply to the next poll over plain HTTP. It never blocks and may be
// called from anywhere.
//
// Nothing is repeated here: an offer that was lost with its connection is
// offered again by whoever sees the agent's next report. The error is
// [ErrNotConnected], or [ErrNeverSend] for what must not leave: a config without
// a hash, or whose hash is not the delivery's, an empty map, an empty file, a
// message over the limit, anything to an agent that does not accept remote
// configs, and a delivery to an agent that said FAILED to it.
func (s *Server) Offer(id fleet.AgentID, d fleet.Delivery, c fleet.Config) error {
	if err := sendable(d, c); err != nil {
		return err
	}
	p, err := s.payload(d, c)
	if err != nil {
		return err
	}
	if messageSize(p) > s.cfg.MaxMessage {
		s.metrics.errors.WithLabelValues(overWebSocket, badOversized).Inc()
		return fmt.Errorf("%w: %d bytes, the limit of a message is %d", ErrNeverSend, len(p.wire), s.cfg.MaxMessage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[id]
	switch {
	case a == nil || !a.live:
		return ErrNotConnected
	case !a.caps.Has(fleet.AcceptsRemoteConfig):
		return fmt.Errorf("%w: the agent does not accept remote configs", ErrNeverSend)
	case a.refused(d):
		return fmt.Errorf("%w: the agent said FAILED to %s", ErrNeverSend, d.Short())
	}
	a.offer = p
	if a.conn != nil {
		a.conn.offered(a)
	}
	return nil
}

// sendable checks what is true of a config whoever gets it.
func sendable(d fleet.Delivery, c fleet.Config) error {
	switch {
	case d.IsZero():
		return fmt.Errorf("%w: it has no hash", ErrNeverSend)
	case d.Config != c.Hash:
		return fmt.Errorf("%w: its hash %s is not the delivery's %s", ErrNeverSend, c.Hash.Short(), d.Short())
	case len(c.Files) == 0:
		return fmt.Errorf("%w: it has no files", ErrNeverSend)
	}
	for i, f := range c.Files {
		if len(bytes.TrimSpace(f.Body)) == 0 {
			return fmt.Errorf("%w: file %q is empty", ErrNeverSend, f.Name)
		}
		if i > 0 && c.Files[i-1].Name == f.Name {
			return fmt.Errorf("%w: two files are named %q", ErrNeverSend, f.Name)
		}
	}
	return nil
}

// maxPayloads is how many encoded configs are kept: a fleet has few at a time.
const maxPayloads = 32

// payload returns the encoded form of an offer, made once for all agents.
func (s *Server) payload(d fleet.Delivery, c fleet.Config) (*payload, error) {
	s.payloadsMu.Lock()
	p := s.payloads[d]
	s.payloadsMu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := newPayload(d, c)
	if err != nil {
		return nil, err
	}
	s.payloadsMu.Lock()
	defer s.payloadsMu.Unlock()
	if len(s.payloads) >= maxPayloads {
		clear(s.payloads)
	}
	s.payloads[d] = p
	return p, nil
}

// oversized books a message of ours that is over the limit and was not sent.
func (s *Server) oversized(transport string, size int) {
	s.metrics.errors.WithLabelValues(transport, badOversized).Inc()
	s.log.Error("message is over the limit and was discarded", "bytes", size, "limit", s.cfg.MaxMessage)
}
