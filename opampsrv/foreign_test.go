package opampsrv_test

import (
	"testing"
	"testing/synctest"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/opampsrv"
)

// What we do not offer is neither answered nor an error: fields and capabilities
// of later versions, packages, certificates and custom messages.
func TestWhatWeDoNotOfferIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, opampsrv.Config{}).dial()
		hello := full(1, 0)
		hello.Capabilities |= 0x7f8 | 1<<40 // packages, own telemetry, restarts
		p.ask(hello)
		later := func(m *protobufs.AgentToServer) {
			unknown := protowire.AppendTag(nil, 900, protowire.BytesType)
			m.ProtoReflect().SetUnknown(protowire.AppendString(unknown, "of a later version"))
		}
		for i, with := range []func(m *protobufs.AgentToServer){
			later,
			func(m *protobufs.AgentToServer) { m.Capabilities |= 1 << 40 },
			func(m *protobufs.AgentToServer) {
				m.PackageStatuses = &protobufs.PackageStatuses{ServerProvidedAllPackagesHash: []byte("old"), ErrorMessage: "no"}
			},
			func(m *protobufs.AgentToServer) {
				m.CustomMessage = &protobufs.CustomMessage{Capability: "com.example.unknown", Type: "x", Data: []byte("y")}
			},
			func(m *protobufs.AgentToServer) {
				m.CustomCapabilities = &protobufs.CustomCapabilities{Capabilities: []string{"com.example.unknown"}}
			},
			func(m *protobufs.AgentToServer) {
				m.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
					CertificateRequest: &protobufs.CertificateRequest{Csr: []byte("please")},
				}}
			},
		} {
			m := bare(1, uint64(i)+1)
			with(m)
			want := &protobufs.ServerToAgent{InstanceUid: uid(1)}
			if got := p.ask(m); !proto.Equal(got, want) {
				t.Errorf("case %d: reply %v, want nothing but the uid", i, got)
			}
		}
	})
}
