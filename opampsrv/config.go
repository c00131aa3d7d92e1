package opampsrv

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// The answers of [Server.Offer] that callers branch on.
var (
	// ErrNotConnected says that nobody speaks for the agent here now.
	ErrNotConnected = errors.New("agent is not connected")

	// ErrNeverSend says that the offer is one that must never leave. The text
	// around it says which rule it breaks.
	ErrNeverSend = errors.New("config must not be sent")
)

// Config says how a [Server] behaves. The zero value of each field means its
// default.
type Config struct {
	// OnReport takes each report, in order for each agent, from the goroutine
	// that read it. It must not block: it only enqueues. Required.
	OnReport func(fleet.Report)

	// Authenticate looks at an upgrade or a POST before anything else is read. An
	// error means 401; its text is logged, never sent. Nil lets everybody in.
	Authenticate func(*http.Request) error

	Path string // where the endpoint is; "/v1/opamp"

	SendTimeout  time.Duration // longest write of one message to one agent; 10 s
	IdleTimeout  time.Duration // WebSocket without a message or a pong; 90 s. Pings go out at a third of it
	PollTimeout  time.Duration // plain-HTTP agent gone after silence; 100 s (three polls of a Supervisor)
	CloseTimeout time.Duration // how long Serve waits for close handshakes at its end; 3 s

	MaxMessage             int64 // bytes of one message, either way, decompressed; 64 MiB (the protocol's default)
	MaxConnections         int   // WebSockets at once; 100,000
	MaxAgents              int   // agents remembered at once; 200,000
	MaxAgentsPerConnection int   // agents on one WebSocket; 10,000

	// HeartbeatInterval is offered once to each agent that reports heartbeats and
	// accepts connection settings, rounded down to seconds, without an endpoint.
	// Zero offers nothing.
	HeartbeatInterval time.Duration

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
}

func (c *Config) setDefaults() error {
	if c.OnReport == nil {
		return errors.New("opampsrv: OnReport is missing")
	}
	if c.Path == "" {
		c.Path = "/v1/opamp"
	}
	for _, d := range []struct {
		name string
		at   *time.Duration
		def  time.Duration
	}{
		{"SendTimeout", &c.SendTimeout, 10 * time.Second},
		{"IdleTimeout", &c.IdleTimeout, 90 * time.Second},
		{"PollTimeout", &c.PollTimeout, 100 * time.Second},
		{"CloseTimeout", &c.CloseTimeout, 3 * time.Second},
		{"HeartbeatInterval", &c.HeartbeatInterval, 0},
	} {
		if *d.at < 0 {
			return fmt.Errorf("opampsrv: %s is negative: %v", d.name, *d.at)
		}
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if h := c.HeartbeatInterval; h != 0 && h < time.Second {
		return fmt.Errorf("opampsrv: HeartbeatInterval is below one second: %v", h)
	}
	if c.MaxMessage < 0 || c.MaxConnections < 0 || c.MaxAgents < 0 || c.MaxAgentsPerConnection < 0 {
		return errors.New("opampsrv: a limit is negative")
	}
	c.MaxMessage = orDefault(c.MaxMessage, 64<<20)
	c.MaxConnections = orDefault(c.MaxConnections, 100_000)
	c.MaxAgents = orDefault(c.MaxAgents, 200_000)
	c.MaxAgentsPerConnection = orDefault(c.MaxAgentsPerConnection, 10_000)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orDefault[N int | int64](n, def N) N {
	if n == 0 {
		return def
	}
	return n
}
