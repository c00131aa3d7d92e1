package opampsrv_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// harness is a server in a bubble, and what it reported.
type harness struct {
	t    *testing.T
	srv  *opampsrv.Server
	pipe *sim.Pipe
	reg  *prometheus.Registry
	stop func()

	mu      sync.Mutex // guards reports
	reports []fleet.Report
}

func start(t *testing.T, cfg opampsrv.Config) *harness {
	h := &harness{t: t, pipe: sim.NewPipe(), reg: prometheus.NewRegistry()}
	cfg.OnReport = func(r fleet.Report) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.reports = append(h.reports, r)
	}
	cfg.Registerer = h.reg
	srv, err := opampsrv.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.srv = srv
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, h.pipe) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// taken returns the reports so far, and forgets them.
func (h *harness) taken() []fleet.Report {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.reports
	h.reports = nil
	return r
}

// metric returns the value of a counter or a gauge.
func (h *harness) metric(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			match := f.GetName() == "bellwether_opamp_"+name
			for _, l := range m.GetLabel() {
				found := false
				for _, want := range labels {
					found = found || l.GetValue() == want
				}
				match = match && found
			}
			if match {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	h.t.Fatalf("no metric %s%v", name, labels)
	return 0
}

// peer is one WebSocket client. It reads all the time, unless it is mute.
type peer struct {
	t  *testing.T
	ws *websocket.Conn

	mu    sync.Mutex // guards what follows
	inbox []*protobufs.ServerToAgent
	err   error // why reading ended
}

func (h *harness) dial() *peer {
	h.t.Helper()
	p := h.mute()
	go p.read()
	return p
}

// mute connects a client that never reads.
func (h *harness) mute() *peer {
	h.t.Helper()
	ws, resp, err := (&websocket.Dialer{NetDialContext: h.pipe.Dial}).Dial("ws://pipe/v1/opamp", nil)
	if err != nil {
		h.t.Fatalf("dial: %v (%v)", err, resp)
	}
	h.t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: h.t, ws: ws}
}

func (p *peer) read() {
	for {
		_, b, err := p.ws.ReadMessage()
		m := new(protobufs.ServerToAgent)
		if err == nil {
			if len(b) == 0 || b[0] != 0 {
				p.t.Errorf("a message does not start with a zero header: %x", b)
			}
			err = proto.Unmarshal(b[1:], m)
		}
		p.mu.Lock()
		p.err = err
		if err == nil {
			p.inbox = append(p.inbox, m)
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *peer) send(m *protobufs.AgentToServer) {
	p.t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	p.raw(websocket.BinaryMessage, append([]byte{0}, b...))
}

func (p *peer) raw(kind int, b []byte) {
	p.t.Helper()
	if err := p.ws.WriteMessage(kind, b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// got returns all messages that came, and forgets them.
func (p *peer) got() []*protobufs.ServerToAgent {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	in := p.inbox
	p.inbox = nil
	return in
}

// ask sends a message and returns the one reply.
func (p *peer) ask(m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	p.t.Helper()
	p.send(m)
	in := p.got()
	if len(in) != 1 {
		p.t.Fatalf("got %d messages, want one reply: %v", len(in), in)
	}
	return in[0]
}

// ended returns why reading ended, nil while it did not.
func (p *peer) ended() error {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func uid(n byte) []byte { return bytes.Repeat([]byte{n}, 16) }

func agentID(n byte) fleet.AgentID { return fleet.AgentID(uid(n)) }

const supervisor = uint64(fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsEffectiveConfig |
	fleet.ReportsHealth | fleet.ReportsRemoteConfig | fleet.ReportsHeartbeat)

// bare is a message with nothing to say.
func bare(n byte, seq uint64) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{InstanceUid: uid(n), SequenceNum: seq, Capabilities: supervisor}
}

// full is a message with the full state.
func full(n byte, seq uint64) *protobufs.AgentToServer {
	m := bare(n, seq)
	m.AgentDescription = &protobufs.AgentDescription{IdentifyingAttributes: []*protobufs.KeyValue{text("service.name", "otelcol")}}
	m.Health = &protobufs.ComponentHealth{Healthy: true}
	m.RemoteConfigStatus = &protobufs.RemoteConfigStatus{}
	return m
}

func text(key, value string) *protobufs.KeyValue {
	return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}}
}

func says(m *protobufs.AgentToServer, s protobufs.RemoteConfigStatuses, d fleet.Delivery) *protobufs.AgentToServer {
	m.RemoteConfigStatus = &protobufs.RemoteConfigStatus{Status: s, LastRemoteConfigHash: d.Wire()}
	return m
}

const (
	applied = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
	failed  = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED
)

func asksFullState(m *protobufs.ServerToAgent) bool { return m.GetFlags() == 1 }

func config(body string) (fleet.Delivery, fleet.Config) {
	c := fleet.NewConfig(fleet.File{Name: "", ContentType: "text/yaml", Body: []byte(body)})
	return fleet.Delivery{Config: c.Hash}, c
}

func (h *harness) offer(n byte, body string) fleet.Delivery {
	h.t.Helper()
	d, c := config(body)
	if err := h.srv.Offer(agentID(n), d, c); err != nil {
		h.t.Fatalf("offer: %v", err)
	}
	return d
}

func dialer(h *harness) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return h.pipe.Dial(ctx, network, addr)
	}, DisableCompression: true}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}
