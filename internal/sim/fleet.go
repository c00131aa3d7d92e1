package sim

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// FleetConfig says what a [Fleet] is. The zero value of each field but URL and
// Count means its default.
type FleetConfig struct {
	URL    string      // of the OpAMP endpoint: ws://, wss://, or http(s):// meaning the same. Required
	Count  int         // agents. Required
	Seed   uint64      // of uids, labels and jitter
	Header http.Header // sent with each upgrade: authorization

	// Labels returns the attributes of the i-th agent. The default gives all of
	// them service.name=otelcol-edge, and a host, a region, an environment, and
	// ring=canary to CanaryShare of them and ring=stable to the rest.
	Labels      func(i int) fleet.Labels
	CanaryShare float64 // 0.1

	Faults []Rule

	ApplyTime   time.Duration // from offer to APPLIED, give or take a quarter; 200 ms; below zero: at once
	Heartbeat   time.Duration // after the last message; 30 s; below zero: never
	Reconnect   time.Duration // first pause after a refused connection; then half as much again each time, jittered, up to 60 s; 500 ms
	ConnectRate int           // first connections a second; 500

	// Record keeps each agent's list of offers for [Fleet.Agents].
	Record bool
	// OnEvent, when set, is told what happens, from the agents' goroutines. It must
	// not block.
	OnEvent func(Event)

	Logger *slog.Logger // nil discards
	// Dial opens the connection under the WebSocket; the default is the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// EventKind says what an [Event] is about.
type EventKind uint8

// What can happen to an agent.
const (
	Connected EventKind = iota
	Disconnected
	Offered  // a config arrived
	Reported // the agent said its remote config status
)

// Event is something that happened to one agent.
type Event struct {
	At       time.Time
	Agent    fleet.AgentID
	Kind     EventKind
	Delivery fleet.Delivery    // Offered, Reported
	Status   fleet.ApplyStatus // Reported
}

func (c *FleetConfig) setDefaults() error {
	if c.URL == "" || c.Count <= 0 {
		return errors.New("sim: a fleet needs a URL and a count above zero")
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&c.ApplyTime, 200 * time.Millisecond},
		{&c.Heartbeat, 30 * time.Second},
		{&c.Reconnect, 500 * time.Millisecond},
	} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if c.CanaryShare == 0 {
		c.CanaryShare = 0.1
	}
	if c.CanaryShare < 0 || c.CanaryShare > 1 {
		return fmt.Errorf("sim: the canary share %v is not between 0 and 1", c.CanaryShare)
	}
	if c.ConnectRate <= 0 {
		c.ConnectRate = 500
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	if c.Labels == nil {
		c.Labels = c.plausible
	}
	return nil
}

// plausible are the default labels of the i-th agent.
func (c *FleetConfig) plausible(i int) fleet.Labels {
	r := random(c.Seed, i, "labels")
	ring := "stable"
	// Every 1/share-th agent, so that the share is exact in small fleets too.
	if int(float64(i+1)*c.CanaryShare) > int(float64(i)*c.CanaryShare) {
		ring = "canary"
	}
	regions := []string{"eu-central", "eu-west", "us-east", "us-west"}
	environment := "prod"
	if r.IntN(5) == 0 {
		environment = "staging"
	}
	return fleet.Labels{
		"service.name":                "otelcol-edge",
		"service.version":             "0.149.0",
		"service.instance.id":         ID(c.Seed, i).String(),
		"host.name":                   fmt.Sprintf("edge-%04d", i+1),
		"host.arch":                   "amd64",
		"os.type":                     "linux",
		"region":                      regions[r.IntN(len(regions))],
		"ring":                        ring,
		"deployment.environment.name": environment,
	}
}

// random is a source that depends on the seed, the agent and what it is for.
func random(seed uint64, i int, what string) *rand.Rand {
	sum := derive(seed, i, what)
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])))
}

func derive(seed uint64, i int, what string) [sha256.Size]byte {
	b := binary.BigEndian.AppendUint64([]byte(what), seed)
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(i)))
}

// ID returns the uid of the i-th agent of a fleet with this seed: a UUIDv7 in
// form.
func ID(seed uint64, i int) fleet.AgentID {
	sum := derive(seed, i, "uid")
	id := fleet.AgentID(sum[:16])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Fleet is a number of simulated agents. Make one with [New], run it with
// [Fleet.Run].
type Fleet struct {
	cfg    FleetConfig
	dialer *websocket.Dialer
	agents []*agent
}

// New makes the agents. It starts nothing.
func New(cfg FleetConfig) (*Fleet, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	switch {
	case len(cfg.URL) > 4 && cfg.URL[:4] == "http":
		cfg.URL = "ws" + cfg.URL[4:]
	case len(cfg.URL) > 2 && cfg.URL[:2] == "ws":
	default:
		return nil, fmt.Errorf("sim: %q is not a ws:// or wss:// URL", cfg.URL)
	}
	f := &Fleet{cfg: cfg, dialer: &websocket.Dialer{
		NetDialContext:   cfg.Dial,
		Proxy:            http.ProxyFromEnvironment,
		HandshakeTimeout: 10 * time.Second,
		ReadBufferSize:   1024,
		WriteBufferSize:  1024,
		WriteBufferPool:  new(sync.Pool),
	}}
	if cfg.Dial != nil {
		f.dialer.Proxy = nil
	}
	for i := range cfg.Count {
		f.agents = append(f.agents, newAgent(f, i))
	}
	return f, nil
}

// Run connects all agents, at ConnectRate, and keeps them connected until ctx
// ends. Then each says goodbye, and Run returns nil once they have.
func (f *Fleet) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	pace := time.Second / time.Duration(f.cfg.ConnectRate)
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, a := range f.agents {
		timer.Reset(time.Until(start.Add(time.Duration(i) * pace)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wg.Go(func() { a.run(ctx) })
	}
	<-ctx.Done()
	return nil
}

// Offer is a config that an agent got.
type Offer struct {
	At       time.Time
	Delivery fleet.Delivery
}

// View is one agent as it sees itself.
type View struct {
	ID        fleet.AgentID
	Labels    fleet.Labels
	Connected bool
	Offered   []Offer           // every offer in order, when FleetConfig.Record is set
	Delivery  fleet.Delivery    // what its remote config status is about
	Status    fleet.ApplyStatus // of that delivery
	Running   fleet.Delivery    // the config it runs; zero when it never had one
	Healthy   bool
}

// Agents returns how each agent is now, in the order of the fleet.
func (f *Fleet) Agents() []View {
	views := make([]View, len(f.agents))
	for i, a := range f.agents {
		views[i] = a.snapshot()
	}
	return views
}

// Counts are a fleet's numbers.
type Counts struct {
	Agents, Connected, Healthy       int
	Unset, Applied, Applying, Failed int
}

// Counts returns how many agents are in which state now.
func (f *Fleet) Counts() Counts {
	var c Counts
	for _, a := range f.agents {
		v := a.snapshot()
		c.Agents++
		c.Connected += count(v.Connected)
		c.Healthy += count(v.Healthy)
		c.Unset += count(v.Status == fleet.Unset)
		c.Applied += count(v.Status == fleet.Applied)
		c.Applying += count(v.Status == fleet.Applying)
		c.Failed += count(v.Status == fleet.Failed)
	}
	return c
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
