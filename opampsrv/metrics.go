package opampsrv

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The closed sets of label values.
const (
	overWebSocket = "websocket"
	overHTTP      = "http"
)

// Why a connection ended.
const (
	closedByPeer   = "peer"     // a close frame, or an agent that said goodbye
	closedAbnormal = "abnormal" // the transport ended without one
	closedIdle     = "idle"     // nothing heard for too long
	closedSlow     = "slow"     // did not take what we wrote in time
	closedTooBig   = "too_big"
	closedProtocol = "protocol" // broken WebSocket framing
	closedShutdown = "shutdown"
)

// Why a request was turned away before any message was read.
const (
	rejectedAuth     = "auth"
	rejectedCapacity = "capacity"
	rejectedRequest  = "request" // method, encoding, upgrade
)

// What was wrong with a message.
const (
	badMalformed = "malformed"
	badUID       = "instance_uid"
	badTooBig    = "too_big"
	badCapacity  = "capacity"
	badSend      = "send"         // a message of ours that could not be written
	badOversized = "send_too_big" // a message of ours over the limit, discarded
)

// metrics are the counters of one server. A nil registerer still counts.
type metrics struct {
	connections *prometheus.GaugeVec
	opened      *prometheus.CounterVec
	closed      *prometheus.CounterVec
	rejected    *prometheus.CounterVec
	received    *prometheus.CounterVec
	sent        *prometheus.CounterVec
	errors      *prometheus.CounterVec
	duration    *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "bellwether", Subsystem: "opamp", Name: name, Help: help,
		}, labels)
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "bellwether", Subsystem: "opamp", Name: "connections",
			Help: "Open WebSockets, and plain-HTTP agents that poll.",
		}, []string{"transport"}),
		opened:   counter("connections_total", "Connections accepted.", "transport"),
		closed:   counter("connections_closed_total", "Connections ended, by reason.", "transport", "reason"),
		rejected: counter("rejected_total", "Requests turned away before a message was read, by reason.", "transport", "reason"),
		received: counter("messages_received_total", "AgentToServer messages received.", "transport"),
		sent:     counter("messages_sent_total", "ServerToAgent messages sent.", "transport"),
		errors:   counter("message_errors_total", "Messages that were bad or could not be sent, by reason.", "transport", "reason"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "bellwether", Subsystem: "opamp", Name: "message_duration_seconds",
			Help:    "Time from a message's last byte to its reply in the mailbox.",
			Buckets: []float64{1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1},
		}, []string{"transport"}),
	}
	for _, t := range []string{overWebSocket, overHTTP} {
		m.connections.WithLabelValues(t)
		m.opened.WithLabelValues(t)
		m.received.WithLabelValues(t)
		m.sent.WithLabelValues(t)
		m.duration.WithLabelValues(t)
		for _, r := range []string{closedByPeer, closedAbnormal, closedIdle, closedSlow, closedTooBig, closedProtocol, closedShutdown} {
			m.closed.WithLabelValues(t, r)
		}
		for _, r := range []string{rejectedAuth, rejectedCapacity, rejectedRequest} {
			m.rejected.WithLabelValues(t, r)
		}
		for _, r := range []string{badMalformed, badUID, badTooBig, badCapacity, badSend, badOversized} {
			m.errors.WithLabelValues(t, r)
		}
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.opened, m.closed, m.rejected, m.received, m.sent, m.errors, m.duration)
	}
	return m
}
