package opampsrv

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Two rules give an agent another instance_uid: it asks for one, or two live
// connections use the same. (OpAMP specification, "Duplicate WebSocket
// Connections".) A reconnect looks like a duplicate for a while, because the old
// connection may not have ended for us yet. What tells them apart is the old one
// speaking again: only then are there two agents, and the newer one is renamed.

// late reports whether a message on c of an agent that was taken over by another
// connection may have been written before that: only after c has answered a ping
// that was sent since do new words prove that two agents live.
func (c *conn) late(takenOver time.Time, m *protobufs.AgentToServer) bool {
	return c.answered.Before(takenOver) || m.GetAgentDisconnect() != nil
}

// rename is a new instance_uid that an agent was given and has not used yet.
type rename struct {
	to        fleet.AgentID
	duplicate bool // until it obeys, nothing it says counts
}

// rename reports whether the agent has to be told another instance_uid, and
// which. It is the same one until the agent uses it; then the old one is gone.
func (s *Server) rename(c *conn, id fleet.AgentID, m *protobufs.AgentToServer, x *exchange, now time.Time) (fleet.AgentID, bool) {
	wants := m.GetFlags()&uint64(protobufs.AgentToServerFlags_AgentToServerFlags_RequestInstanceUid) != 0
	renames := s.renames
	if c != nil {
		renames = c.renames
	}
	if len(renames) == 0 && !wants {
		return id, false
	}
	for from, r := range renames {
		if r.to != id {
			continue
		}
		delete(renames, from)
		if a := s.agents[from]; a != nil && a.live && a.conn == c && !r.duplicate {
			x.reports = append(x.reports, s.leave(a, now))
		}
	}
	r, ok := renames[id]
	switch {
	case ok && (wants || r.duplicate):
		return r.to, true
	case ok:
		delete(renames, id) // it keeps its uid after all
		return id, false
	case !wants:
		return id, false
	}
	r = rename{to: newAgentID(now)}
	if c == nil {
		if len(s.renames) >= maxRenames {
			clear(s.renames)
		}
		s.renames[id] = r
	} else {
		c.rename(id, r)
	}
	return r.to, true
}

// maxRenames bounds the memory of new uids given over plain HTTP.
const maxRenames = 10_000

// duplicate tells the connection that speaks for a now that its agent needs
// another instance_uid: an older connection has just proved to be alive.
func (s *Server) duplicate(a *agent, now time.Time) {
	newer := a.conn
	if newer == nil {
		return
	}
	r := rename{to: newAgentID(now), duplicate: true}
	newer.rename(a.id, r)
	newer.push(outbound{msg: renaming(a.id, r.to)})
	s.log.Warn("two live connections used one instance_uid", "agent", a.id, "new", r.to)
}

// renaming is the message that gives an agent another instance_uid.
func renaming(id, to fleet.AgentID) *protobufs.ServerToAgent {
	return &protobufs.ServerToAgent{
		InstanceUid:         id[:],
		AgentIdentification: &protobufs.AgentIdentification{NewInstanceUid: to[:]},
	}
}

// newAgentID makes a UUIDv7 (RFC 9562): 48 bits of milliseconds, the rest random.
func newAgentID(now time.Time) fleet.AgentID {
	var id fleet.AgentID
	rand.Read(id[:]) // never fails
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
