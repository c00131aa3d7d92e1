package opampsrv

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// FuzzReceive: whatever arrives, there is one answer with the uid it came with,
// and what is reported keeps within the limits.
func FuzzReceive(f *testing.F) {
	for _, m := range seeds() {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{0}, b...))
	}
	f.Add([]byte{})
	f.Add([]byte{0x80, 0x00})
	f.Add([]byte{0, 0xff})
	f.Fuzz(func(t *testing.T, frame []byte) {
		s, err := New(Config{OnReport: func(fleet.Report) {}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeFrame(frame)
		if err != nil {
			return
		}
		for range 2 {
			x := s.receive(nil, m, time.Unix(1, 0))
			if x.reply == nil || string(x.reply.GetInstanceUid()) != string(m.GetInstanceUid()) {
				t.Fatalf("answered %v to %v", x.reply, m)
			}
			if (x.bad != "") != (x.reply.GetErrorResponse() != nil) {
				t.Fatalf("answered %v, booked %q", x.reply, x.bad)
			}
			for _, r := range x.reports {
				checkReport(t, r)
			}
		}
	})
}

func checkReport(t *testing.T, r fleet.Report) {
	t.Helper()
	if r.Agent == (fleet.AgentID{}) || r.Session == 0 || len(r.Labels) > maxLabels {
		t.Errorf("report %+v", r)
	}
	texts := []string{}
	for _, v := range r.Labels {
		texts = append(texts, v)
	}
	if r.Health != nil {
		texts = append(texts, r.Health.Error, r.Health.Status)
	}
	if r.Remote != nil {
		texts = append(texts, r.Remote.Error)
		if r.Remote.Foreign && !r.Remote.Delivery.IsZero() {
			t.Errorf("status %+v is foreign and ours", r.Remote)
		}
	}
	for _, s := range texts {
		if len(s) > maxText || !utf8.ValidString(s) {
			t.Errorf("text of %d bytes, valid %v", len(s), utf8.ValidString(s))
		}
	}
}

func seeds() []*protobufs.AgentToServer {
	id := []byte("0123456789abcdef")
	value := func(v *protobufs.AnyValue) *protobufs.KeyValue { return &protobufs.KeyValue{Key: "k", Value: v} }
	return []*protobufs.AgentToServer{
		{InstanceUid: id},
		{InstanceUid: id, Flags: 1},
		{InstanceUid: id, AgentDisconnect: &protobufs.AgentDisconnect{}},
		{InstanceUid: id, SequenceNum: 5, Capabilities: 0x3807, AgentDescription: &protobufs.AgentDescription{
			IdentifyingAttributes: []*protobufs.KeyValue{
				value(&protobufs.AnyValue{Value: &protobufs.AnyValue_IntValue{IntValue: 1}}),
				value(&protobufs.AnyValue{Value: &protobufs.AnyValue_ArrayValue{ArrayValue: &protobufs.ArrayValue{}}}),
			},
			NonIdentifyingAttributes: []*protobufs.KeyValue{nil, value(nil)},
		}},
		{InstanceUid: id, Health: &protobufs.ComponentHealth{StartTimeUnixNano: 1 << 63, LastError: "x"}},
		{InstanceUid: id, RemoteConfigStatus: &protobufs.RemoteConfigStatus{Status: 99, LastRemoteConfigHash: make([]byte, 36)}},
		{InstanceUid: id, EffectiveConfig: &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{
			ConfigMap: map[string]*protobufs.AgentConfigFile{"": nil, "a": {Body: []byte("b")}},
		}}},
	}
}

// What a label becomes.
func TestLabelsAreTextOfBothLists(t *testing.T) {
	kv := func(k string, v *protobufs.AnyValue) *protobufs.KeyValue {
		return &protobufs.KeyValue{Key: k, Value: v}
	}
	str := func(s string) *protobufs.AnyValue {
		return &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: s}}
	}
	got := labels(&protobufs.AgentDescription{
		IdentifyingAttributes: []*protobufs.KeyValue{kv("service.name", str("a")), kv("", str("no key"))},
		NonIdentifyingAttributes: []*protobufs.KeyValue{
			kv("service.name", str("b")), kv("n", &protobufs.AnyValue{Value: &protobufs.AnyValue_IntValue{IntValue: -3}}),
			kv("f", &protobufs.AnyValue{Value: &protobufs.AnyValue_DoubleValue{DoubleValue: 0.5}}),
			kv("t", &protobufs.AnyValue{Value: &protobufs.AnyValue_BoolValue{BoolValue: true}}),
			kv("list", &protobufs.AnyValue{Value: &protobufs.AnyValue_ArrayValue{}}), kv("none", nil),
		},
	})
	if want := "f=0.5,n=-3,service.name=a,t=true"; got.String() != want {
		t.Errorf("labels %q, want %q", got, want)
	}
}

// Offers are encoded once and joined to any message: still one message.
func TestJoinedEncodingsAreOneMessage(t *testing.T) {
	c := fleet.NewConfig(fleet.File{Name: "a", Body: []byte("1")}, fleet.File{Name: "b", ContentType: "text/yaml", Body: []byte("2")})
	p, err := newPayload(fleet.Delivery{Config: c.Hash, Attempt: 2}, c)
	if err != nil {
		t.Fatal(err)
	}
	id := fleet.AgentID{1}
	b, err := appendMessage(nil, &protobufs.ServerToAgent{InstanceUid: id[:]}, p)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != messageSize(p) {
		t.Errorf("%d bytes, foreseen %d", len(b), messageSize(p))
	}
	m := new(protobufs.ServerToAgent)
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	if len(m.GetRemoteConfig().GetConfig().GetConfigMap()) != 2 || len(m.GetInstanceUid()) != 16 {
		t.Errorf("got %v", m)
	}
}
