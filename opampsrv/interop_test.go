package opampsrv_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// opamp-go's own client, over TCP and both transports: it connects, takes an
// offer, reports what became of it and says goodbye.
func TestInteropWithTheClientOfOpampGo(t *testing.T) {
	for name, tc := range map[string]struct {
		scheme string
		client client.OpAMPClient
		gone   bool // it says goodbye
	}{
		"websocket": {"ws://", client.NewWebSocket(nil), true},
		"http":      {"http://", client.NewHTTP(nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, addr, reports := listen(t)
			await := func(what string, is func(fleet.Report) bool) {
				t.Helper()
				late := time.After(20 * time.Second)
				for {
					select {
					case r := <-reports:
						if is(r) {
							return
						}
					case <-late:
						t.Fatalf("no report: %s", what)
					}
				}
			}
			startClient(t, tc.client, tc.scheme+addr+"/v1/opamp")
			await("the first", func(r fleet.Report) bool { return r.Labels["service.name"] == "otelcol" && r.Remote != nil })
			d, c := config("receivers: {}")
			if err := srv.Offer(agentID(1), d, c); err != nil {
				t.Fatal(err)
			}
			if err := tc.client.SetHealth(&protobufs.ComponentHealth{Healthy: true}); err != nil { // a poll at once
				t.Fatal(err)
			}
			await("APPLIED", func(r fleet.Report) bool {
				return r.Remote != nil && r.Remote.Status == fleet.Applied && r.Remote.Delivery == d
			})
			stopping, done := context.WithTimeout(context.Background(), 5*time.Second)
			defer done()
			if err := tc.client.Stop(stopping); err != nil {
				t.Error(err)
			}
			if tc.gone {
				await("the goodbye", func(r fleet.Report) bool { return r.Gone })
			}
		})
	}
}

// listen starts a server on loopback, until the test ends.
func listen(t *testing.T) (*opampsrv.Server, string, <-chan fleet.Report) {
	t.Helper()
	reports := make(chan fleet.Report, 100)
	srv, err := opampsrv.New(opampsrv.Config{OnReport: func(r fleet.Report) { reports <- r }})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return srv, ln.Addr().String(), reports
}

func startClient(t *testing.T, c client.OpAMPClient, url string) {
	t.Helper()
	err := c.SetAgentDescription(&protobufs.AgentDescription{
		IdentifyingAttributes: []*protobufs.KeyValue{text("service.name", "otelcol")},
	})
	if err == nil {
		err = c.SetHealth(&protobufs.ComponentHealth{})
	}
	capabilities := protobufs.AgentCapabilities(supervisor)
	if err == nil {
		err = c.SetCapabilities(&capabilities)
	}
	if err == nil {
		err = c.Start(context.Background(), types.StartSettings{
			OpAMPServerURL: url,
			InstanceUid:    types.InstanceUid(uid(1)),
			Callbacks: types.Callbacks{OnMessage: func(_ context.Context, m *types.MessageData) {
				rc := m.RemoteConfig
				if rc == nil || !bytes.Contains(rc.GetConfig().GetConfigMap()[""].GetBody(), []byte("receivers")) {
					return
				}
				if err := c.SetRemoteConfigStatus(&protobufs.RemoteConfigStatus{
					LastRemoteConfigHash: rc.GetConfigHash(), Status: applied,
				}); err != nil {
					t.Error(err)
				}
			}},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}
