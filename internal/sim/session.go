package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

const (
	sendTimeout  = 10 * time.Second
	maxReconnect = 60 * time.Second
)

// errLeaving ends a session because the script says so.
var errLeaving = errors.New("simulated fault: offline")

// run keeps the agent connected until ctx ends. After a session it reconnects at
// once; after a refusal it waits, longer each time.
func (a *agent) run(ctx context.Context) {
	pause := a.fleet.cfg.Reconnect
	for ctx.Err() == nil {
		ws, resp, err := a.fleet.dialer.DialContext(ctx, a.fleet.cfg.URL, a.fleet.cfg.Header)
		if resp != nil && err != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		if err != nil {
			a.fleet.cfg.Logger.Debug("connection refused", "agent", a.id, "err", err)
			a.idle(ctx, time.Duration(float64(pause)*(0.5+a.random.Float64())))
			pause = min(pause+pause/2, maxReconnect)
			continue
		}
		pause = a.fleet.cfg.Reconnect
		err = a.session(ctx, ws)
		_ = ws.Close()
		a.publish(func(v *View) { v.Connected = false })
		a.event(Disconnected, fleet.Delivery{}, fleet.Unset)
		a.fleet.cfg.Logger.Debug("session ended", "agent", a.id, "err", err)
		if errors.Is(err, errLeaving) {
			a.stayAway(ctx)
		}
		a.idle(ctx, time.Millisecond) // what a Supervisor needs
	}
}

// idle waits, while what is due happens unseen by the server.
func (a *agent) idle(ctx context.Context, d time.Duration) {
	until := time.Now().Add(d)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := until
		if !a.due.IsZero() && a.due.Before(next) {
			next = a.due
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if next.Equal(until) {
			return
		}
		a.alarm() // its message is lost: the sequence number shows it
		a.publish(func(*View) {})
	}
}

// stayAway is the offline fault: the config is on disk, and is applied when the
// agent is back.
func (a *agent) stayAway(ctx context.Context) {
	if a.fault.After == 0 {
		<-ctx.Done()
		return
	}
	a.idle(ctx, a.fault.After)
	a.after(0, (*agent).apply)
}

// session is the life of one connection.
func (a *agent) session(ctx context.Context, ws *websocket.Conn) error {
	inbox := make(chan *protobufs.ServerToAgent)
	done := make(chan struct{})
	broken := make(chan error, 1)
	go func() { broken <- read(ws, inbox, done) }()
	defer close(done)

	first := a.message
	if !a.introduced {
		first = a.full
	}
	if err := a.send(ws, first()); err != nil {
		return err
	}
	a.publish(func(v *View) { v.Connected = true })
	a.event(Connected, fleet.Delivery{}, fleet.Unset)
	timer := time.NewTimer(0)
	defer timer.Stop()
	beat := a.nextBeat()
	for {
		next := beat
		if !a.due.IsZero() && (next.IsZero() || a.due.Before(next)) {
			next = a.due
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		var say *protobufs.AgentToServer
		select {
		case <-ctx.Done():
			return a.goodbye(ws)
		case err := <-broken:
			return err
		case m := <-inbox:
			answer, err := a.take(m)
			if err != nil {
				return err
			}
			say = answer
		case <-timer.C:
			if now := time.Now(); !a.due.IsZero() && !a.due.After(now) {
				say = a.alarm()
			} else if !beat.IsZero() && !beat.After(now) {
				say = a.message()
			}
		}
		if say != nil {
			if err := a.send(ws, say); err != nil {
				return err
			}
			beat = a.nextBeat()
		}
		a.publish(func(*View) {})
	}
}

func (a *agent) nextBeat() time.Time {
	if a.heartbeat <= 0 {
		return time.Time{}
	}
	return time.Now().Add(a.heartbeat)
}

// take reads one message of the server and returns the answer, nil for none.
func (a *agent) take(m *protobufs.ServerToAgent) (*protobufs.AgentToServer, error) {
	if e := m.GetErrorResponse(); e != nil {
		a.fleet.cfg.Logger.Warn("server refused a message", "agent", a.id, "err", e.GetErrorMessage())
		return nil, nil
	}
	if s := m.GetConnectionSettings().GetOpamp().GetHeartbeatIntervalSeconds(); s > 0 {
		a.heartbeat = time.Duration(s) * time.Second
	}
	full := m.GetFlags()&uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState) != 0
	if uid := m.GetAgentIdentification().GetNewInstanceUid(); len(uid) == len(a.id) {
		a.id = fleet.AgentID(uid)
		full = true
	}
	var say *protobufs.AgentToServer
	if rc := m.GetRemoteConfig(); rc != nil {
		answer, leaving := a.receive(rc)
		if leaving {
			return nil, errLeaving
		}
		say = answer
	}
	if full {
		if say != nil {
			a.seq-- // one message says both
		}
		say = a.full()
	}
	return say, nil
}

// goodbye says that the agent goes, and closes as the protocol asks.
func (a *agent) goodbye(ws *websocket.Conn) error {
	m := a.message()
	m.AgentDisconnect = &protobufs.AgentDisconnect{}
	if err := a.send(ws, m); err != nil {
		return err
	}
	deadline := time.Now().Add(time.Second)
	return ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
}

// send writes one message: a zero header and the protobuf.
func (a *agent) send(ws *websocket.Conn, m *protobufs.AgentToServer) error {
	frame, err := proto.MarshalOptions{}.MarshalAppend([]byte{0}, m)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	_ = ws.SetWriteDeadline(time.Now().Add(sendTimeout)) // never fails
	if err := ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		return fmt.Errorf("writing a message: %w", err)
	}
	return nil
}

// read hands on what the server sends until the connection or the session ends.
func read(ws *websocket.Conn, inbox chan<- *protobufs.ServerToAgent, done <-chan struct{}) error {
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		m := new(protobufs.ServerToAgent)
		if len(frame) > 0 && frame[0] == 0 {
			frame = frame[1:]
		}
		if err := proto.Unmarshal(frame, m); err != nil {
			return fmt.Errorf("decoding a message: %w", err)
		}
		select {
		case inbox <- m:
		case <-done:
			return nil
		}
	}
}
