package sim

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/open-telemetry/opamp-go/server"
	"github.com/open-telemetry/opamp-go/server/types"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Floor is the least that an OpAMP server can do, built on opamp-go's own: it
// keeps its connections and sends a config to each in turn. It has no registry,
// no limits, no deadlines and no rollouts. Benchmarks measure against it.
type Floor struct {
	handler server.HTTPHandlerFunc
	context server.ConnContext

	mu       sync.Mutex                  // guards what follows
	conns    map[types.Connection][]byte // and the uid seen on each
	onReport func(fleet.AgentID, fleet.Delivery, fleet.ApplyStatus)
}

// NewFloor makes one. OnReport is told each remote config status.
func NewFloor(onReport func(fleet.AgentID, fleet.Delivery, fleet.ApplyStatus)) (*Floor, error) {
	f := &Floor{conns: map[types.Connection][]byte{}, onReport: onReport}
	accept := func(*http.Request) types.ConnectionResponse {
		return types.ConnectionResponse{Accept: true, ConnectionCallbacks: types.ConnectionCallbacks{
			OnMessage: f.message, OnConnectionClose: f.closed,
		}}
	}
	var err error
	f.handler, f.context, err = server.New(nil).Attach(server.Settings{Callbacks: types.Callbacks{OnConnecting: accept}})
	return f, err
}

func (f *Floor) message(_ context.Context, c types.Connection, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	f.mu.Lock()
	if f.conns[c] == nil {
		f.conns[c] = m.GetInstanceUid()
	}
	f.mu.Unlock()
	if s := m.GetRemoteConfigStatus(); s != nil && len(m.GetInstanceUid()) == len(fleet.AgentID{}) {
		d, _ := fleet.ParseWire(s.GetLastRemoteConfigHash())
		f.onReport(fleet.AgentID(m.GetInstanceUid()), d, fleet.ApplyStatus(s.GetStatus())&3)
	}
	return &protobufs.ServerToAgent{InstanceUid: m.GetInstanceUid()}
}

func (f *Floor) closed(c types.Connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// Connections returns how many agents have spoken on an open connection.
func (f *Floor) Connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// Send sends a config to all agents, one after the other.
func (f *Floor) Send(ctx context.Context, d fleet.Delivery, c fleet.Config) error {
	f.mu.Lock()
	conns := maps.Clone(f.conns)
	f.mu.Unlock()
	rc := &protobufs.AgentRemoteConfig{Config: config{files: c.Files}.effective().GetConfigMap(), ConfigHash: d.Wire()}
	var errs []error
	for c, uid := range conns {
		errs = append(errs, c.Send(ctx, &protobufs.ServerToAgent{InstanceUid: uid, RemoteConfig: rc}))
	}
	return errors.Join(errs...)
}

// Serve accepts connections on ln until ctx ends, and closes them.
func (f *Floor) Serve(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{
		Handler: http.HandlerFunc(f.handler), ConnContext: f.context, ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(ln) }()
	<-ctx.Done()
	err := hs.Close()
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Disconnect()
	}
	return err
}
