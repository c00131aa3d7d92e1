package opampsrv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Server is the OpAMP endpoint. Make one with [New], run it with [Server.Serve].
type Server struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	upgrader websocket.Upgrader
	buffers  *sync.Pool
	zippers  *sync.Pool

	capabilities uint64
	heartbeat    *protobufs.ConnectionSettingsOffers // nil: not offered

	running sync.WaitGroup // readers and writers of WebSockets

	// mu guards the registry and all mailboxes: what follows, and the marked
	// fields of conn and agent. It is never held across I/O or a callback.
	mu      sync.Mutex
	serving bool
	closing bool
	agents  map[fleet.AgentID]*agent
	conns   map[*conn]struct{}
	renames map[fleet.AgentID]rename   // over plain HTTP
	busy    map[fleet.AgentID]struct{} // with a POST being answered
	session uint64
	polling int // live agents over plain HTTP
	swept   time.Time

	// payloadsMu guards payloads.
	payloadsMu sync.Mutex
	payloads   map[fleet.Delivery]*payload
}

// New checks the config and makes a server. It starts nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:     cfg,
		log:     cfg.Logger,
		metrics: newMetrics(cfg.Registerer),
		upgrader: websocket.Upgrader{
			HandshakeTimeout: cfg.SendTimeout,
			ReadBufferSize:   512, // per connection; long messages are read past it
			WriteBufferSize:  2048,
			WriteBufferPool:  new(sync.Pool), // held only while writing
		},
		buffers: newBufferPool(),
		zippers: newZipperPool(),
		capabilities: uint64(protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus |
			protobufs.ServerCapabilities_ServerCapabilities_OffersRemoteConfig |
			protobufs.ServerCapabilities_ServerCapabilities_AcceptsEffectiveConfig),
		agents:   map[fleet.AgentID]*agent{},
		conns:    map[*conn]struct{}{},
		renames:  map[fleet.AgentID]rename{},
		busy:     map[fleet.AgentID]struct{}{},
		payloads: map[fleet.Delivery]*payload{},
	}
	s.upgrader.Error = func(w http.ResponseWriter, _ *http.Request, code int, _ error) {
		s.reject(w, overWebSocket, rejectedRequest, code)
	}
	if seconds := uint64(cfg.HeartbeatInterval / time.Second); seconds > 0 {
		s.capabilities |= uint64(protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings)
		s.heartbeat = heartbeatOffer(seconds)
	}
	return s, nil
}

// heartbeatOffer holds an interval and, on purpose, no endpoint: real agents take
// the interval and leave their connection alone.
func heartbeatOffer(seconds uint64) *protobufs.ConnectionSettingsOffers {
	hash := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("heartbeat "), seconds))
	return &protobufs.ConnectionSettingsOffers{
		Hash:  hash[:],
		Opamp: &protobufs.OpAMPConnectionSettings{HeartbeatIntervalSeconds: seconds},
	}
}

// Connections returns how many WebSockets are open and how many agents poll.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) + s.polling
}

// Serve accepts connections on ln until ctx ends or the listener fails. Then it
// sends a close frame to each WebSocket, waits for their answers for at most
// CloseTimeout, and returns when everything it started has: nil after ctx ended.
// It closes ln, and can be called once. A TLS listener must offer http/1.1 only:
// WebSockets need it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	again := s.serving
	s.serving = true
	s.mu.Unlock()
	if again {
		return errors.New("opampsrv: Serve was called before")
	}
	hs := &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: s.cfg.SendTimeout,
		ReadTimeout:       3 * s.cfg.SendTimeout,
		WriteTimeout:      4 * s.cfg.SendTimeout,
		IdleTimeout:       s.cfg.PollTimeout,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          log.New(errorLog{s.log}, "", 0),
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(ln) }()
	minding, stopMinding := context.WithCancel(ctx)
	var minder sync.WaitGroup
	minder.Go(func() { s.mind(minding) })
	var err error
	ended := false
	select {
	case err = <-served:
		ended = true
	case <-ctx.Done():
	}
	stopMinding()
	minder.Wait()
	s.shutdown(hs)
	if !ended {
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving OpAMP on %s: %w", ln.Addr(), err)
}

// shutdown ends all connections within CloseTimeout.
func (s *Server) shutdown(hs *http.Server) {
	deadline := time.Now().Add(s.cfg.CloseTimeout)
	s.mu.Lock()
	s.closing = true // no upgrade is registered after this
	for c := range s.conns {
		c.shut(websocket.CloseGoingAway, deadline)
	}
	s.mu.Unlock()
	cut := time.AfterFunc(s.cfg.CloseTimeout, func() {
		_ = hs.Close() // what remains has had its time
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.ws.Close()
		}
	})
	defer cut.Stop()
	_ = hs.Shutdown(context.Background()) // bounded by cut
	s.running.Wait()
	s.endPolling()
}

// endPolling ends the sessions of agents over plain HTTP.
func (s *Server) endPolling() {
	now := time.Now()
	var reports []fleet.Report
	s.mu.Lock()
	for _, a := range s.agents {
		if a.live {
			reports = append(reports, s.leave(a, now))
			s.metrics.closed.WithLabelValues(overHTTP, closedShutdown).Inc()
		}
	}
	s.mu.Unlock()
	for _, r := range reports {
		s.cfg.OnReport(r)
	}
}

// mind pings quiet WebSockets and ends the sessions of agents that stopped polling.
func (s *Server) mind(ctx context.Context) {
	tick := time.NewTicker(max(min(s.cfg.IdleTimeout/6, s.cfg.PollTimeout/10), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range s.expire(time.Now()) {
			s.cfg.OnReport(r)
		}
	}
}

// release gives a buffer back, unless it grew so much that keeping it is waste.
func (s *Server) release(buf *bytes.Buffer) {
	if buf.Cap() <= maxPooled {
		s.buffers.Put(buf)
	}
}

// errorLog takes net/http's own lines: broken handshakes and the like.
type errorLog struct{ log *slog.Logger }

var _ io.Writer = errorLog{}

// Write logs one line of net/http.
func (e errorLog) Write(p []byte) (int, error) {
	e.log.Debug("http server", "err", string(bytes.TrimSpace(p)))
	return len(p), nil
}
