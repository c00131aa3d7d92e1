package opampsrv

import (
	"errors"
	"slices"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// errFull is the answer to an agent that is one too many.
var errFull = errors.New("too many agents; try again later")

// agent is what the server knows of one instance_uid: the protocol's state, not
// the fleet's. All fields are guarded by the server's mutex.
type agent struct {
	id fleet.AgentID

	// live is true while a connection (conn), or over plain HTTP a recent poll
	// (conn is nil), speaks for the agent. session names that time.
	live    bool
	conn    *conn
	session uint64
	heard   time.Time // the last message

	// seq is the last sequence number. need says that we lack some of the agent's
	// state, asked that we said so in this session. told says that this session's
	// reports had the remote config status.
	seq     uint64
	counted bool // seq holds a number
	need    bool
	asked   bool
	told    bool

	greeted   bool // our capabilities were sent in this session
	heartbeat bool // the heartbeat interval was offered

	caps   fleet.Capabilities
	remote *fleet.RemoteStatus
	failed []fleet.Delivery // refused by the agent, newest last

	offer  *payload // waiting to be sent; the newest only
	queued bool     // in its connection's list of agents with an offer
	given  *payload // in the last reply to a poll, which may have been lost
}

// maxFailed is how many refused deliveries are remembered here. The durable
// memory is the reconciler's; this one is the last barrier before the wire.
const maxFailed = 16

func (a *agent) refused(d fleet.Delivery) bool { return slices.Contains(a.failed, d) }

// mayReceive reports whether the wire may carry d to a at this moment.
func (a *agent) mayReceive(d fleet.Delivery) bool {
	return a.caps.Has(fleet.AcceptsRemoteConfig) && !a.refused(d)
}

// exchange is what one message leads to: a reply, and reports to hand on.
type exchange struct {
	agent   *agent // nil when the message was bad
	reply   *protobufs.ServerToAgent
	reports []fleet.Report
	bad     string // why the message was bad, a metric's label
}

// receive takes one message that came over c, or over plain HTTP when c is nil.
func (s *Server) receive(c *conn, m *protobufs.AgentToServer, now time.Time) exchange {
	id, err := agentID(m)
	if err != nil {
		return exchange{reply: refusal(m.GetInstanceUid(), badRequest, err), bad: badUID}
	}
	r := report(m) // before the lock: it is the work
	r.Agent, r.At = id, now

	s.mu.Lock()
	defer s.mu.Unlock()
	var x exchange
	if to, ok := s.rename(c, id, m, &x, now); ok {
		x.reply = renaming(id, to)
		return x
	}
	a := s.agents[id]
	if a == nil {
		if !s.makeRoom(now) {
			x.reply, x.bad = refusal(m.GetInstanceUid(), unavailable, errFull), badCapacity
			return x
		}
		a = &agent{id: id, need: true}
		s.agents[id] = a
	}
	if !s.speaks(c, a, m, now) {
		x.reply = &protobufs.ServerToAgent{InstanceUid: id[:]} // late words of an old connection
		return x
	}
	if c != nil && len(c.agents) > s.cfg.MaxAgentsPerConnection {
		s.leave(a, now)
		x.reply, x.bad = refusal(m.GetInstanceUid(), unavailable, errFull), badCapacity
		return x
	}
	x.agent = a
	x.reply = s.answer(c == nil, a, m, &r)
	r.Session = a.session
	x.reports = append(x.reports, r)
	if m.GetAgentDisconnect() != nil {
		x.reports = append(x.reports, s.leave(a, now))
	}
	return x
}

// answer folds m into a and fills in what r does not say itself.
func (s *Server) answer(http bool, a *agent, m *protobufs.AgentToServer, r *fleet.Report) *protobufs.ServerToAgent {
	if m.GetCapabilities() != 0 { // some clients leave them out of polls: unchanged
		a.caps = fleet.Capabilities(m.GetCapabilities())
	}
	r.Capabilities = a.caps
	if repeated := a.counted && m.GetSequenceNum() == a.seq; repeated && a.offer == nil {
		a.offer = a.given
	}
	a.given = nil
	reply := &protobufs.ServerToAgent{InstanceUid: m.GetInstanceUid()}
	if a.sequence(m.GetSequenceNum(), m.GetAgentDescription() != nil, http) {
		reply.Flags = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	}
	a.status(r)
	if a.offer != nil && !a.mayReceive(a.offer.delivery) {
		a.offer = nil
	}
	if !a.greeted {
		a.greeted = true
		reply.Capabilities = s.capabilities
	}
	if s.heartbeat != nil && !a.heartbeat && a.caps.Has(fleet.ReportsHeartbeat|acceptsConnectionSettings) {
		a.heartbeat = true
		reply.ConnectionSettings = s.heartbeat
	}
	return reply
}

// acceptsConnectionSettings is AcceptsOpAMPConnectionSettings of the protocol.
const acceptsConnectionSettings fleet.Capabilities = 0x100

// sequence notes a sequence number and reports whether to ask for the full
// state: once for each gap, once when we hold nothing, and never in answer to
// the full report that was asked for. A repeated number is a repeated message:
// nothing is missing, but over plain HTTP our question may be.
func (a *agent) sequence(seq uint64, full, http bool) (ask bool) {
	repeated := a.counted && seq == a.seq
	gap := a.counted && !repeated && seq != a.seq+1
	a.seq, a.counted = seq, true
	switch {
	case a.need && full:
		a.need, a.asked = false, false
	case gap && !a.need:
		a.need, a.asked = true, true
		return true
	case a.need && (!a.asked || http && (repeated || gap)):
		a.asked = true
		return true
	}
	return false
}

// status keeps the agent's remote config status, and repeats it in the first
// report of a session whose agent rightly left it out. An agent whose full state
// has none never had a config.
func (a *agent) status(r *fleet.Report) {
	switch {
	case r.Remote != nil:
		a.remote = r.Remote
		if d := r.Remote.Delivery; r.Remote.Status == fleet.Failed && !d.IsZero() && !a.refused(d) {
			if len(a.failed) == maxFailed {
				a.failed = slices.Delete(a.failed, 0, 1)
			}
			a.failed = append(a.failed, d)
		}
	case !a.told && !a.need:
		if a.remote == nil {
			a.remote = &fleet.RemoteStatus{}
		}
		r.Remote = a.remote
	}
	a.told = a.told || r.Remote != nil
}

// speaks makes c the one that speaks for a, and reports whether what it says now
// counts. A connection that takes over starts a session, so that words of the old
// one, its end included, change nothing any more.
func (s *Server) speaks(c *conn, a *agent, m *protobufs.AgentToServer, now time.Time) bool {
	defer func() { a.heard = now }()
	if a.live && a.conn == c {
		return true
	}
	if c != nil && a.live {
		takenOver, was := c.displaced[a.id]
		if was && c.late(takenOver, m) {
			return false
		}
		if was {
			s.duplicate(a, now)
		}
	}
	if a.live && a.conn != nil {
		a.conn.displace(a, now)
	}
	if c != nil {
		delete(c.displaced, a.id)
		c.agents = append(c.agents, a)
	}
	switched := !a.live || (a.conn == nil) != (c == nil)
	if a.live && switched {
		s.countLive(a, -1)
	}
	s.session = max(s.session+1, uint64(now.UnixNano()))
	a.live, a.conn, a.session = true, c, s.session
	a.asked, a.told, a.greeted = false, false, false
	if switched {
		s.countLive(a, +1)
	}
	return true
}

// countLive keeps the gauge of agents that poll; WebSockets are counted as such.
func (s *Server) countLive(a *agent, by int) {
	if a.conn != nil {
		return
	}
	s.polling += by
	s.metrics.connections.WithLabelValues(overHTTP).Add(float64(by))
	if by > 0 {
		s.metrics.opened.WithLabelValues(overHTTP).Inc()
	}
}

// leave ends a's session and returns the report that says so. What waited for
// the agent is dropped: whoever offered it is told by the report.
func (s *Server) leave(a *agent, now time.Time) fleet.Report {
	gone := fleet.Report{Agent: a.id, Session: a.session, At: now, Gone: true}
	if a.conn != nil {
		a.conn.forget(a)
	}
	s.countLive(a, -1)
	a.live, a.conn, a.offer, a.given, a.queued = false, nil, nil, nil, false
	return gone
}

// remembered is how long an agent that went is remembered.
const remembered = time.Hour

// makeRoom reports whether one more agent may be remembered, and forgets those
// that went to make it so.
func (s *Server) makeRoom(now time.Time) bool {
	if len(s.agents) < s.cfg.MaxAgents {
		return true
	}
	if now.Sub(s.swept) < time.Second {
		return false
	}
	s.swept = now
	for id, a := range s.agents {
		if !a.live {
			delete(s.agents, id)
		}
	}
	return len(s.agents) < s.cfg.MaxAgents
}

// expire ends the sessions of agents that stopped polling, forgets those that
// went long ago, has quiet connections pinged, and returns the reports.
func (s *Server) expire(now time.Time) (reports []fleet.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.agents {
		silent := now.Sub(a.heard)
		switch {
		case a.live && a.conn == nil && silent >= s.cfg.PollTimeout:
			reports = append(reports, s.leave(a, now))
			s.metrics.closed.WithLabelValues(overHTTP, closedIdle).Inc()
		case !a.live && silent >= remembered:
			delete(s.agents, id)
		}
	}
	for c := range s.conns {
		if now.Sub(c.heard) >= s.cfg.IdleTimeout/3 {
			c.ping = true
			c.wake()
		}
	}
	return reports
}
