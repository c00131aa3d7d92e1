package opampsrv

import (
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

const protobufType = "application/x-protobuf"

// handle is the endpoint: authentication first, then a content type of protobuf
// means plain HTTP and an upgrade a WebSocket.
func (s *Server) handle(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != s.cfg.Path {
		http.NotFound(w, req)
		return
	}
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	transport := overHTTP
	if kind != protobufType && websocket.IsWebSocketUpgrade(req) {
		transport = overWebSocket
	}
	if s.cfg.Authenticate != nil {
		if err := s.cfg.Authenticate(req); err != nil {
			s.log.Debug("authentication refused", "remote", req.RemoteAddr, "err", err)
			s.reject(w, transport, rejectedAuth, http.StatusUnauthorized)
			return
		}
	}
	switch {
	case transport == overWebSocket:
		s.upgrade(w, req)
	case kind == protobufType && req.Method == http.MethodPost:
		s.poll(w, req)
	case kind == protobufType:
		w.Header().Set("Allow", http.MethodPost)
		s.reject(w, transport, rejectedRequest, http.StatusMethodNotAllowed)
	case req.Method == http.MethodPost:
		s.reject(w, transport, rejectedRequest, http.StatusUnsupportedMediaType)
	default:
		w.Header().Set("Upgrade", "websocket")
		s.reject(w, transport, rejectedRequest, http.StatusUpgradeRequired)
	}
}

// reject turns a request away with nothing but a status. "Come back later" says
// when, and not the same to all: clients obey to the millisecond.
func (s *Server) reject(w http.ResponseWriter, transport, reason string, code int) {
	s.metrics.rejected.WithLabelValues(transport, reason).Inc()
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(30+rand.IntN(31)))
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	http.Error(w, strings.ToLower(http.StatusText(code)), code)
}

// upgrade makes a WebSocket and hands it to a goroutine of its own: the one of
// the HTTP server has a larger stack than an idle agent needs.
func (s *Server) upgrade(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	full := s.closing || len(s.conns) >= s.cfg.MaxConnections
	s.mu.Unlock()
	if full {
		s.reject(w, overWebSocket, rejectedCapacity, http.StatusServiceUnavailable)
		return
	}
	ws, err := s.upgrader.Upgrade(w, req, nil)
	if err != nil {
		s.log.Debug("upgrade refused", "remote", req.RemoteAddr, "err", err)
		return
	}
	c := &conn{srv: s, ws: ws, room: make(chan struct{}, 1), heard: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing { // it began meanwhile
		_ = ws.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.metrics.opened.WithLabelValues(overWebSocket).Inc()
	s.metrics.connections.WithLabelValues(overWebSocket).Inc()
	s.running.Add(1)
	go s.run(c)
}

// run is the life of one WebSocket.
func (s *Server) run(c *conn) {
	defer s.running.Done()
	reason := c.read()
	now := time.Now()
	var reports []fleet.Report
	s.mu.Lock()
	c.end()
	delete(s.conns, c)
	spoke := c.agents
	c.agents = nil
	for _, a := range spoke {
		reports = append(reports, s.leave(a, now))
	}
	s.mu.Unlock()
	_ = c.ws.Close() // it has ended already, or ends here
	for _, r := range reports {
		s.cfg.OnReport(r)
	}
	s.metrics.connections.WithLabelValues(overWebSocket).Dec()
	s.metrics.closed.WithLabelValues(overWebSocket, reason).Inc()
}
